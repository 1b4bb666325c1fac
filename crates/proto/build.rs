//! Compiles `/proto` with protox: no system `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    let files = ["conclave/peer/v1/peer.proto", "conclave/stored/v1/stored.proto", "conclave/kv/v1/kv.proto"];
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .bytes(".conclave.peer.v1")
        .bytes(".conclave.stored.v1.Proposal")
        // Maps that are stored have one spelling.
        .btree_map(".conclave.stored.v1")
        .skip_debug([".conclave.peer.v1", ".conclave.stored.v1", ".conclave.kv.v1"])
        .compile_fds(descriptors)?;
    Ok(())
}

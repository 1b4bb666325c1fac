//! `conclave completion`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::fault::Fault;
use crate::output;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "conclave", &mut script);
    output::emit(&String::from_utf8(script).expect("the generator writes text"))
}

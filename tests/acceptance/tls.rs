//! Both clients over TLS, with a cluster by `conclave dev --tls`.

use std::path::PathBuf;

use crate::bao::Bao;
use crate::check::Tally;
use crate::check::Want::{Json, Stdout, Warns};
use crate::dev::Dev;
use crate::{hvac, needs};

#[test]
fn clients_trust_the_clusters_certificates() {
    let (Some(program), Some(python)) = (needs::bao(), needs::python()) else { return };
    let dev = Dev::start(&["--tls"]);
    let mut tally = Tally::default();
    let bao = Bao::new(program, dev.addresses()).token(dev.text("root_token"));
    bao.check_at(&mut tally, "without the authority bao refuses", 0, "status", 1, &[Warns("certificate signed by unknown authority")]);
    let bao = bao.ca_file(PathBuf::from(dev.text("ca_cert")));
    bao.check_at(&mut tally, "status over TLS", 0, "status -format=json", 0, &[Json("/sealed", "false")]);
    bao.check_at(&mut tally, "put over TLS", 1, "kv put secret/tls x=1", 0, &[]);
    bao.check_at(&mut tally, "get over TLS", 2, "kv get -field=x secret/tls", 0, &[Stdout("1")]);
    hvac::whole(&mut tally, &python, "tls", &dev.addresses(), Some((dev.text("ca_cert"), dev.text("root_token"))), dev.folder());
    tally.finish(10);
}

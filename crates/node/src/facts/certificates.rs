//! Certificates: until when those that this node shows are valid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use types::Timestamp;
use x509_parser::pem::Pem;

use super::metrics::Scrape;

/// When each certificate ends, in seconds since 1970, by what it is for. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Certificates(Arc<Mutex<BTreeMap<&'static str, i64>>>);

impl Certificates {
    /// Notes the first certificate of `pem`, which is shown for `purpose` (`listener`, `peers`) from now on. One that cannot be read
    /// is not told of: who loads it has said so.
    pub(crate) fn note(&self, purpose: &'static str, pem: &[u8]) {
        let first = Pem::iter_from_buffer(pem).flatten().find(|block| block.label == "CERTIFICATE");
        self.set(purpose, first.and_then(|block| block.parse_x509().ok().map(|certificate| certificate.validity().not_after.timestamp())));
    }

    /// Notes when the certificate ends that is shown for `purpose`; `None`: there is none.
    pub(crate) fn note_end(&self, purpose: &'static str, ends: Option<Timestamp>) {
        self.set(purpose, ends.map(|ends| i64::try_from(ends.seconds()).unwrap_or(i64::MAX)));
    }

    fn set(&self, purpose: &'static str, ends: Option<i64>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ends {
            Some(ends) => known.insert(purpose, ends),
            None => known.remove(purpose),
        };
    }

    /// Tells them.
    pub(super) fn measure(&self, scrape: &mut Scrape) {
        let help = "When the certificate that this node shows ends, in seconds since 1970.";
        for (purpose, ends) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            scrape.gauge("conclave_certificate_end_seconds", help, &[("purpose", purpose)], *ends as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn the_end_of_the_first_certificate_is_told() {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let certificates = Certificates::default();
        certificates.note("listener", format!("{}{certificate}", key.serialize_pem()).as_bytes());
        certificates.note("peers", b"no certificate");
        let mut scrape = Metrics::default().scrape();
        certificates.measure(&mut scrape);
        let text = scrape.to_prometheus();
        assert!(text.contains("conclave_certificate_end_seconds{purpose=\"listener\"} 1893542400\n"), "{text}");
        assert!(!text.contains("peers"), "{text}");
    }
}

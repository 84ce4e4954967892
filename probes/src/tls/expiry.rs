//! Until when certificates are good.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::{Identity, TlsError, read_certificates};

/// When the identity's own chain (`identity`) and the authorities of its peers (`ca`) expire: of each file the certificate that
/// does so first. Empty for a mesh secret, whose certificates do not, and for no identity at all. A certificate that is not
/// understood is left out.
pub fn expiries(identity: &Identity) -> Result<Vec<(&'static str, SystemTime)>, TlsError> {
    let Identity::Files(files) = identity else { return Ok(Vec::new()) };
    let first = |certificates: Vec<CertificateDer<'static>>| certificates.iter().filter_map(not_after).min();
    let identity = first(read_certificates(&files.cert)?).map(|at| ("identity", at));
    let ca = first(read_certificates(&files.ca)?).map(|at| ("ca", at));
    Ok(identity.into_iter().chain(ca).collect())
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_system_time())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};

    use super::super::PemFiles;
    use super::*;

    #[test]
    fn the_first_of_a_chain_that_expires_is_told_and_a_secret_never_does() {
        let directory = tempfile::tempdir().unwrap();
        let pem = |day: u8| {
            let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(2100, 1, day);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let cert = write("chain.pem", format!("{}{}", pem(9), pem(5)));
        let ca = write("ca.pem", pem(20));
        let files = PemFiles { key: cert.clone(), cert, ca, server_name: None };
        let told = expiries(&Identity::Files(files)).unwrap();
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 + (day - 1) * 86_400);
        assert_eq!(told, [("identity", day(5)), ("ca", day(20))]);
        assert_eq!(expiries(&Identity::Insecure).unwrap(), []);
    }
}

//! Why a command did not do what it was asked, and how that is told: what, where, the server's words, a cure.

use std::fmt::Write as _;
use std::process::ExitCode;

use client::{Error, Failure};

/// Exit code of a local fault.
const LOCAL: u8 = 1;
/// Exit code of a server's answer, or of no answer.
const SERVER: u8 = 2;

/// Exit code of a prompt that was left by Ctrl-C: what shells say of a command that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// A command that ends without what was asked for.
#[derive(Debug)]
pub(crate) struct Fault {
    code: u8,
    /// Empty: everything is said already.
    message: String,
    cure: Option<String>,
}

impl Fault {
    /// The caller's or our own.
    pub(crate) fn local(message: impl Into<String>) -> Fault {
        Fault { code: LOCAL, message: message.into(), cure: None }
    }

    /// From the server, when all that can be said is said.
    pub(crate) fn server(message: impl Into<String>) -> Fault {
        Fault { code: SERVER, message: message.into(), cure: None }
    }

    /// Only an exit code: the answer was printed, and the code repeats it.
    pub(crate) fn code(code: u8) -> Fault {
        Fault { code, message: String::new(), cure: None }
    }

    /// Ctrl-C at a prompt.
    pub(crate) fn interrupted() -> Fault {
        Fault::code(INTERRUPTED)
    }

    /// Whether it is Ctrl-C at a prompt.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.code == INTERRUPTED
    }

    /// What to do about it.
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Fault {
        self.cure = Some(cure.into());
        self
    }

    /// Puts what was being done in front.
    pub(crate) fn during(mut self, act: &str) -> Fault {
        self.message = format!("{act}: {}", self.message);
        self
    }

    /// The same with another exit code.
    pub(crate) fn with_code(mut self, code: u8) -> Fault {
        self.code = code;
        self
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("Error: {}", self.message);
        }
        if let Some(cure) = &self.cure {
            eprintln!("Cure: {cure}");
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.cure {
            Some(cure) => write!(f, " ({cure})"),
            None => Ok(()),
        }
    }
}

impl From<client::BuildError> for Fault {
    fn from(error: client::BuildError) -> Fault {
        Fault::local(error.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let cure = cure(&error);
        let (code, message) = match &error {
            Error::Refused(refusal) => {
                let (method, path) = refusal.ask.split_once(' ').unwrap_or((&refusal.ask, ""));
                let mut message = format!("the server refused, with status {}\n  {method} {}{path}", refusal.status, refusal.address);
                words(&mut message, &refusal.errors);
                if let (403, Some(id)) = (refusal.status, &refusal.request_id) {
                    write!(message, "\n  request {id}").expect("writing to a String cannot fail");
                }
                (SERVER, message)
            }
            Error::Unavailable { ask, tried } => {
                let mut message = format!("no node could take it\n  {ask}");
                for attempt in tried {
                    write!(message, "\n  * {attempt}").expect("writing to a String cannot fail");
                }
                (SERVER, message)
            }
            Error::Indeterminate { ask, last } => {
                (SERVER, format!("sent, but nobody knows whether it was, or will be, applied\n  {ask}\n  * {last}"))
            }
            Error::Malformed { .. } => (SERVER, error.to_string()),
            Error::Input { .. } => (LOCAL, error.to_string()),
        };
        Fault { code, message, cure }
    }
}

fn words(message: &mut String, errors: &[String]) {
    for error in errors {
        write!(message, "\n  * {}", error.trim()).expect("writing to a String cannot fail");
    }
}

/// What helps, where we know it.
fn cure(error: &Error) -> Option<String> {
    if error.is_sealed() {
        return Some("the cluster is sealed: give shares with `conclave operator unseal`, at any node".to_owned());
    }
    match error {
        Error::Refused(refusal) => {
            let says = |text: &str| refusal.errors.iter().any(|error| error.contains(text));
            match refusal.status {
                403 => {
                    let explain = refusal.request_id.as_ref().map_or_else(String::new, |id| {
                        format!(". With a token that may ask, `conclave policy explain {id}` names the rule that denied it")
                    });
                    Some(format!(
                        "is the token right? It comes from CONCLAVE_TOKEN, BAO_TOKEN, VAULT_TOKEN or `conclave login`, and its policies must allow this{explain}"
                    ))
                }
                400 if says("not initialized") => Some("make the cluster's keys first: `conclave operator init`".to_owned()),
                400 if says("check-and-set") => {
                    Some("pass the newest version as -cas (`conclave kv metadata get` shows it; 0 when there is none)".to_owned())
                }
                400 if refusal.errors.is_empty() && refusal.address.starts_with("http://") => {
                    Some("if the server speaks TLS, its address begins with https://".to_owned())
                }
                301..=308 => Some("the server sends us elsewhere; give that address with -address if you trust it".to_owned()),
                _ => None,
            }
        }
        Error::Unavailable { tried, .. } => tried.iter().find_map(|attempt| match &attempt.failure {
            Failure::Connect(_) => {
                Some("is the server running there? Another address is given by -address, CONCLAVE_ADDR, BAO_ADDR or VAULT_ADDR".to_owned())
            }
            Failure::Tls(cause) if cause.contains("UnknownIssuer") => {
                Some("give the authority that signed the server's certificate: -ca-cert FILE, or CONCLAVE_CACERT".to_owned())
            }
            Failure::Tls(cause) if cause.contains("http://") => Some("use an address that begins with http://".to_owned()),
            Failure::Tls(_) => Some("the certificate must fit the address; -tls-server-name names another host".to_owned()),
            Failure::Broken(_) if attempt.address.starts_with("http://") => {
                Some("if the server speaks TLS, its address begins with https://".to_owned())
            }
            Failure::Timeout | Failure::Broken(_) | Failure::Status { .. } => None,
        }),
        Error::Indeterminate { .. } => Some("read it before you do it again".to_owned()),
        Error::Malformed { .. } => Some("is that a Conclave, Vault or OpenBao server?".to_owned()),
        Error::Input { .. } => None,
    }
}

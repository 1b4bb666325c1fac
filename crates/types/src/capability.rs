//! What may be done ([`Capability`], the words of a policy) and what is asked ([`Verb`], of a request).
//!
//! Always: the texts are Vault's (and OpenBao's, for `scan`). Which verb needs which capability is for the policy check to say.

use std::fmt;
use std::str::FromStr;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal),+ $(,)? }, $error:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word_doc])* $word,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$word),+];

            /// The text of an API or a policy.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$word => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<$name, $error> {
                match text {
                    $($text => Ok($name::$word),)+
                    _ => Err($error { text: text.chars().take(WORD_CHARS_SHOWN).collect() }),
                }
            }
        }
    };
}

/// How much of an unknown word an error repeats, in characters.
const WORD_CHARS_SHOWN: usize = 40;

words! {
    /// What a policy grants on a path, or refuses.
    Capability {
        /// Write where nothing is.
        Create = "create",
        /// Read.
        Read = "read",
        /// Write where something is.
        Update = "update",
        /// Change a part.
        Patch = "patch",
        /// Delete.
        Delete = "delete",
        /// List the names in a folder.
        List = "list",
        /// List the names in a folder and below.
        Scan = "scan",
        /// Use a path that needs more than the plain capability.
        Sudo = "sudo",
        /// Receive events.
        Subscribe = "subscribe",
        /// Nothing at all; stronger than any grant.
        Deny = "deny",
    }, CapabilityParseError
}

words! {
    /// What a request asks for. A write is `update` in its text, as in Vault, until it is known whether it creates.
    Verb {
        /// `GET`, `HEAD`.
        Read = "read",
        /// `POST`, `PUT`.
        Write = "update",
        /// `PATCH`.
        Patch = "patch",
        /// `DELETE`.
        Delete = "delete",
        /// `LIST`, or `GET` with `list=true`.
        List = "list",
        /// `SCAN`, or `GET` with `scan=true`.
        Scan = "scan",
    }, VerbParseError
}

/// A word that is no [`Capability`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no capability (use create, read, update, patch, delete, list, scan, sudo, subscribe or deny)")]
pub struct CapabilityParseError {
    text: String,
}

/// A word that is no [`Verb`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no operation (use read, update, patch, delete, list or scan)")]
pub struct VerbParseError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for &capability in Capability::ALL {
            assert_eq!(capability.as_str().parse(), Ok(capability));
        }
        for &verb in Verb::ALL {
            assert_eq!(verb.as_str().parse(), Ok(verb));
        }
    }

    #[test]
    fn unknown_words_are_refused_with_the_cure_in_every_case() {
        for word in ["", "Read", " read", "root", "write"] {
            let error = word.parse::<Capability>().unwrap_err().to_string();
            for &capability in Capability::ALL {
                assert!(error.contains(capability.as_str()), "{error} names {capability}");
            }
            let error = word.parse::<Verb>().unwrap_err().to_string();
            for &verb in Verb::ALL {
                assert!(error.contains(verb.as_str()), "{error} names {verb}");
            }
        }
        assert!("x".repeat(1 << 20).parse::<Capability>().unwrap_err().to_string().len() < 200);
    }
}

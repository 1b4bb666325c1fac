//! Texts of policies: ACL policies, password policies, and the templates of list filters.
//!
//! A mistake has words, and not more than people read. What was understood can be put together and asked.

use service::policy::acl::Acl;
use service::policy::decision::Question;
use service::policy::filter::ListFilter;
use service::policy::password::PasswordPolicy;
use service::policy::text::Policy;
use types::{Path, Timestamp, Verb};

use crate::driver::Subject;

/// The longest text of all mistakes together, in bytes.
const MISTAKES_BYTES_MAX: usize = 64 * 1024;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    super::documents(include_str!("../../../corpora/policies.txt"))
}

pub(super) fn subject() -> Box<Subject> {
    let path = Path::parse("secret/data/team/app").expect("a path");
    Box::new(move |input| {
        let Some(text) = super::text(input) else { return "no text".into() };
        let acl = match Policy::parse(text) {
            Ok(policy) => {
                let acl = Acl::compile([("p", &policy, ""), ("again", &policy, "a/")], Timestamp(1_800_000_000_000));
                let answers: String = [Verb::Read, Verb::Write, Verb::List]
                    .map(|verb| if acl.check(&Question::new(&path, verb)).is_allowed() { 'y' } else { 'n' })
                    .iter()
                    .collect();
                format!("{} {answers}", acl.capabilities(&path).join(","))
            }
            Err(error) => bounded(&error.to_string()),
        };
        let password = match PasswordPolicy::parse(text) {
            Ok(policy) => {
                let rng = crypto::SeededRng::dangerous_from_seed(1);
                let password = policy.generate(&rng);
                assert_eq!(password.chars().count(), policy.length(), "a password of another length");
                "a password policy".into()
            }
            Err(error) => bounded(&error.to_string()),
        };
        let filter = match ListFilter::parse(text, "secret/metadata/") {
            Ok(filter) => format!("{:?}", filter.path("secret/metadata/team/", "app/").map(|path| path.len() > 8)),
            Err(error) => bounded(&error.to_string()),
        };
        format!("{acl}|{password}|{filter}")
    })
}

fn bounded(text: &str) -> String {
    assert!(!text.is_empty() && text.len() <= MISTAKES_BYTES_MAX, "mistakes of {} bytes", text.len());
    text.chars().filter(|letter| !letter.is_control()).take(60).collect()
}

//! What is due when: chores of the whole cluster, kept in the order of their time, so that nobody ever reads them all.
//!
//! Always: a chore is planned in the same batch as what makes it necessary, and removed in the same batch as what it does; so it
//! is done even if every node is lost in between, and doing it twice does no harm. Times are the leader's (UTC).

use barrier::{Name, Plan};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use types::Timestamp;

/// The folder of all chores.
pub(crate) fn folder() -> Name {
    Name::new("core/due")
}

/// Where the chores of one second lie: a folder for each day, hour, minute and second.
pub(crate) fn second_folder(at: Timestamp) -> Name {
    let seconds = at.seconds();
    let (day, hour, minute, second) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    folder().join(&format!("{day:06}/{hour:02}/{minute:02}/{second:02}"))
}

fn name(at: Timestamp, id: &str) -> Name {
    second_folder(at).join(id)
}

/// Plans a chore. Of two with the same time and id the later one holds.
pub(crate) fn put(plan: &mut Plan, at: Timestamp, id: &str, task: Task) {
    let chore = stored::Chore { task: Some(task), attempts: 0, last_error: String::new() };
    plan.put(name(at, id), SecretBytes::from(chore.encode_to_vec()));
}

/// Plans that a chore is not due any more.
pub(crate) fn remove(plan: &mut Plan, at: Timestamp, id: &str) {
    plan.delete(name(at, id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_times_do() {
        let at = |seconds: u64| second_folder(Timestamp(seconds * 1000)).as_str().to_owned();
        assert_eq!(at(0), "core/due/000000/00/00/00");
        assert_eq!(at(1_795_510_799), "core/due/020781/08/59/59");
        let times = [0, 1, 59, 60, 3599, 3600, 86_399, 86_400, 1_795_510_799, 1_795_510_800];
        assert!(times.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    }
}

//! What is due when: chores of the whole cluster, kept in the order of their time, so that nobody ever reads them all.
//!
//! Always: a chore is planned in the same batch as what makes it necessary, and removed in the same batch as what it does; so it
//! is done even if every node is lost in between, and doing it twice does no harm. Times are the leader's (UTC). A chore lies under the
//! first whole second at which it is due; one that was tried in vain has a second record, by which such chores are found.

use std::time::Duration;

use barrier::{Name, Plan, View, ViewError};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use types::{Revision, Timestamp};

/// The pause after the first attempt in vain; it doubles with each, up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest account of a failure that is kept, in characters.
const ERROR_CHARS_MAX: usize = 400;

/// The folder of all chores.
pub(crate) fn folder() -> Name {
    Name::new("core/due")
}

/// The folder of those that were tried in vain.
pub(crate) fn failing_folder() -> Name {
    Name::new("core/failing")
}

/// Where the chores of one second lie: a folder for each day, hour, minute and second.
fn second_folder(seconds: u64) -> Name {
    let (day, hour, minute, second) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    folder().join(&format!("{day:06}/{hour:02}/{minute:02}/{second:02}"))
}

fn name(at: Timestamp, id: &str) -> Name {
    // Rounded up: what lies in a second that has begun is due.
    second_folder(at.0.div_ceil(1000)).join(id)
}

/// Plans a chore. Of two with the same time and id the later one holds.
pub(crate) fn put(plan: &mut Plan, at: Timestamp, id: &str, task: Task) {
    let chore = stored::Chore { task: Some(task), attempts: 0, last_error: String::new(), due_ms: 0 };
    plan.put(name(at, id), SecretBytes::from(chore.encode_to_vec()));
}

/// Plans a chore that is due at once: in the second that has begun, and not in the next one.
pub(crate) fn put_now(plan: &mut Plan, now: Timestamp, id: &str, task: Task) {
    put(plan, Timestamp(now.0 - now.0 % 1000), id, task);
}

/// Whether a plan writes a chore that is due by `now`.
pub(crate) fn is_due_in(plan: &Plan, now: Timestamp) -> bool {
    let [all, newest] = [folder(), second_folder(now.0 / 1000)].map(|folder| format!("{}/", folder.as_str()));
    let is_due = |name: &str| name.starts_with(&all) && (name < newest.as_str() || name.starts_with(&newest));
    plan.written().any(|name| is_due(name.as_str()))
}

/// Plans that a chore is not due any more.
pub(crate) fn remove(plan: &mut Plan, at: Timestamp, id: &str) {
    plan.delete(name(at, id));
}

/// A chore that is due.
pub(crate) struct Due {
    name: Name,
    revision: Revision,
    id: String,
    /// `None`: the record makes no sense.
    pub(crate) chore: Option<stored::Chore>,
}

impl Due {
    /// What is to be done.
    pub(crate) fn task(&self) -> Option<&Task> {
        self.chore.as_ref()?.task.as_ref()
    }

    /// Plans that the chore is still as it was found: nobody else has done it meanwhile.
    pub(crate) fn expect(&self, plan: &mut Plan) {
        plan.expect(self.name.clone(), self.revision);
    }

    /// Plans that it is this from now on, at the same time.
    pub(crate) fn becomes(&self, task: Task, plan: &mut Plan) {
        self.expect(plan);
        let chore = stored::Chore { task: Some(task), ..self.chore.clone().unwrap_or_default() };
        plan.put(self.name.clone(), SecretBytes::from(chore.encode_to_vec()));
    }

    /// Plans that it is done.
    pub(crate) fn done(&self, plan: &mut Plan) {
        self.expect(plan);
        plan.delete(self.name.clone());
        if self.chore.as_ref().is_some_and(|chore| chore.attempts > 0) {
            plan.delete(failing_folder().join(&self.id));
        }
    }

    /// Plans another attempt after one in vain: the later, the more there were. For ever.
    pub(crate) fn put_off(&self, error: &str, now: Timestamp, plan: &mut Plan) {
        self.expect(plan);
        plan.delete(self.name.clone());
        let mut chore = self.chore.clone().unwrap_or_default();
        let pause = PAUSE_FIRST.saturating_mul(1 << chore.attempts.min(16)).min(PAUSE_MAX);
        let at = Timestamp(now.0.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
        chore.attempts = chore.attempts.saturating_add(1);
        chore.last_error = error.chars().take(ERROR_CHARS_MAX).collect();
        plan.put(name(at, &self.id), SecretBytes::from(chore.encode_to_vec()));
        chore.due_ms = at.0;
        plan.put(failing_folder().join(&self.id), SecretBytes::from(chore.encode_to_vec()));
    }
}

/// Chores that are due at `now`, the oldest first (of one second in no order), at most `limit`. `visited` counts the names that were looked
/// at: of the days that are planned for, and of what lies in the past, never of what lies below a day to come.
pub(crate) fn take(view: &View, now: Timestamp, limit: usize, visited: &mut usize) -> Result<Vec<Due>, ViewError> {
    let now = now.seconds();
    let mut found = Vec::new();
    let levels = [now / 86_400, now / 3600 % 24, now / 60 % 60, now % 60];
    descend(view, &folder(), &levels, limit, &mut found, visited)?;
    Ok(found)
}

/// Takes from a folder of folders by time, of which `bounds` (its own first) are the last to take from.
fn descend(view: &View, at: &Name, bounds: &[u64], limit: usize, found: &mut Vec<Due>, visited: &mut usize) -> Result<(), ViewError> {
    let Some((&bound, inner)) = bounds.split_first() else { return collect(view, at, limit, found, visited) };
    let children = view.children(at)?;
    *visited += children.len();
    // Sorted by their text, and so by time: all of one level have as many digits.
    for child in children.iter().filter(|child| child.is_folder()) {
        let segment = child.as_str().trim_end_matches('/');
        let Ok(number) = segment.parse::<u64>() else { continue };
        if number > bound || found.len() >= limit {
            break;
        }
        let whole = [u64::MAX; 3];
        let inner = if number == bound { inner } else { &whole[..inner.len()] };
        descend(view, &at.join(segment), inner, limit, found, visited)?;
    }
    Ok(())
}

/// Takes the chores of one second.
fn collect(view: &View, second: &Name, limit: usize, found: &mut Vec<Due>, visited: &mut usize) -> Result<(), ViewError> {
    let names = view.names_below(second, limit.saturating_sub(found.len()))?;
    *visited += names.len();
    for below in names {
        let name = second.join(below.as_str());
        let record = view.read(&name)?;
        let Some(value) = record.value else { continue };
        // EXPOSE: the record is decoded.
        let chore = stored::Chore::decode(value.expose()).ok();
        found.push(Due { name, revision: record.revision, id: below.as_str().to_owned(), chore });
    }
    Ok(())
}

/// Chores that were tried in vain, at most `limit`.
pub(crate) fn failing(view: &View, limit: usize) -> Result<Vec<stored::Chore>, ViewError> {
    let mut found = Vec::new();
    for below in view.names_below(&failing_folder(), limit)? {
        if let Some(value) = view.read(&failing_folder().join(below.as_str()))?.value {
            // EXPOSE: the record is decoded.
            found.push(stored::Chore::decode(value.expose()).map_err(|_| ViewError::Malformed)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use barrier::testing::MemoryBarrier;

    use super::*;

    fn purge(uuid: &str) -> Task {
        Task::PurgeMount(uuid.into())
    }

    fn ids(due: &[Due]) -> Vec<&str> {
        due.iter().map(|due| due.id.as_str()).collect()
    }

    #[test]
    fn names_sort_as_times_do() {
        let at = |seconds: u64| name(Timestamp(seconds * 1000), "x").as_str().to_owned();
        assert_eq!(at(0), "core/due/000000/00/00/00/x");
        assert_eq!(at(1_795_510_799), "core/due/020781/08/59/59/x");
        let times = [0, 1, 59, 60, 3599, 3600, 86_399, 86_400, 1_795_510_799, 1_795_510_800];
        assert!(times.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    }

    #[test]
    fn a_plan_tells_whether_something_in_it_is_due() {
        let now = Timestamp(1_795_510_799_300);
        let tell = |put: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::new();
            plan.put(Name::new("core/duet/000000"), SecretBytes::from(Vec::new()));
            put(&mut plan);
            is_due_in(&plan, now)
        };
        assert!(!tell(&|_| {}), "other records are none");
        assert!(tell(&|plan| put_now(plan, now, "a", purge("a"))));
        assert!(tell(&|plan| put(plan, Timestamp(1_000), "a", purge("a"))));
        for later in [now.0, now.0 + 1_000, now.0 + 86_400_000] {
            assert!(!tell(&|plan| put(plan, Timestamp(later), "a", purge("a"))), "{later} is in a second that has not begun");
        }
    }

    #[test]
    fn what_is_due_is_taken_in_the_order_of_time_and_nothing_before_its_time() {
        let barrier = MemoryBarrier::new(1);
        let mut plan = Plan::new();
        for (ms, id) in [(86_400_500, "e"), (59_000, "b"), (58_001, "b2"), (3_600_000, "d"), (1, "a"), (60_000, "c"), (90_000_000, "f")] {
            put(&mut plan, Timestamp(ms), id, purge(id));
        }
        assert!(barrier.commit(&barrier.view(), &plan));
        let taken = |ms: u64, limit: usize| {
            let mut due: Vec<String> = take(&barrier.view(), Timestamp(ms), limit, &mut 0).unwrap().into_iter().map(|due| due.id).collect();
            due.sort();
            due.join(" ")
        };
        for (ms, want) in [
            (0, ""),
            (999, ""),
            (1000, "a"),
            (58_999, "a"),
            (59_000, "a b b2"),
            (60_000, "a b b2 c"),
            (3_600_000, "a b b2 c d"),
            (86_400_999, "a b b2 c d"),
            (86_401_000, "a b b2 c d e"),
            (u64::MAX, "a b b2 c d e f"),
        ] {
            assert_eq!(taken(ms, 100), want, "{ms}");
        }
        assert_eq!(taken(u64::MAX, 1), "a", "the oldest first");
        assert_eq!(taken(u64::MAX, 4), "a b b2 c");
    }

    #[test]
    fn chores_to_come_do_not_slow_a_round() {
        const CHORES: u64 = 100_000;
        const DAY_S: u64 = 86_400;
        let barrier = MemoryBarrier::new(2);
        let now = 1_795_510_800_u64;
        for first in (0..CHORES).step_by(10_000) {
            let mut plan = Plan::new();
            for number in first..first + 10_000 {
                // Over the next 32 days.
                let at = now + 1 + number * (32 * DAY_S) / CHORES;
                put(&mut plan, Timestamp(at * 1000), &format!("chore-{number}"), purge("x"));
            }
            assert!(barrier.commit(&barrier.view(), &plan));
        }
        let mut plan = Plan::new();
        put(&mut plan, Timestamp((now - 5 * DAY_S) * 1000), "late", purge("x"));
        assert!(barrier.commit(&barrier.view(), &plan));
        let mut visited = 0;
        let due = take(&barrier.view(), Timestamp(now * 1000), 256, &mut visited).unwrap();
        assert_eq!(ids(&due), ["late"]);
        assert!(visited < 34 + 5 + 24 + 60 + 60, "{visited} of {CHORES} names were looked at");
    }

    #[test]
    fn a_chore_that_fails_is_put_off_further_each_time_and_shown_until_it_is_done() {
        let barrier = MemoryBarrier::new(3);
        let mut now = Timestamp(1_000_000);
        let mut plan = Plan::new();
        put(&mut plan, now, "x", purge("x"));
        assert!(barrier.commit(&barrier.view(), &plan));
        for (attempt, pause_s) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300].into_iter().enumerate() {
            let due = take(&barrier.view(), now, 9, &mut 0).unwrap();
            assert_eq!(ids(&due), ["x"], "attempt {attempt}");
            let mut plan = Plan::new();
            due[0].put_off("the engine is away", now, &mut plan);
            assert!(barrier.commit(&barrier.view(), &plan));
            assert!(!barrier.commit(&barrier.view(), &plan), "once only");
            let failing = failing(&barrier.view(), 9).unwrap();
            assert_eq!(failing[0].attempts as usize, attempt + 1);
            assert_eq!((failing[0].last_error.as_str(), failing[0].due_ms), ("the engine is away", now.0 + pause_s * 1000));
            assert!(take(&barrier.view(), Timestamp(now.0 + pause_s * 1000 - 1), 9, &mut 0).unwrap().is_empty());
            now = Timestamp(now.0 + pause_s * 1000);
        }
        let due = take(&barrier.view(), now, 9, &mut 0).unwrap();
        let mut plan = Plan::new();
        due[0].done(&mut plan);
        assert!(barrier.commit(&barrier.view(), &plan));
        assert!(take(&barrier.view(), Timestamp(u64::MAX), 9, &mut 0).unwrap().is_empty());
        assert!(failing(&barrier.view(), 9).unwrap().is_empty());
    }
}

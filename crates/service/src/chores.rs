//! Chores: what is done by itself, in the order of its time, by whichever node leads.
//!
//! Always: the effect of a chore and its removal are one batch that expects the chore as it was found, so it is done once, whoever else
//! believes to lead, and whatever is lost in between. A round is bounded in chores and writes; a chore with more to do than that stays, and
//! goes on in the next round. What fails is tried again for ever, ever later, and shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barrier::{AccessError, CommitError, Name, Plan, ViewError};
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;
use types::{Clock, Timestamp};

use crate::due::{self, Due};
use crate::lease::{self, Undoers};
use crate::node::Software;
use crate::outcome::PlanError;
use crate::purge;
use crate::records::{self, Caches, Records};
use crate::store::Store;
use crate::sys::versions;
use crate::token;

/// The pause between two looks at what is due.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after a round that could not be carried out.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(5);
/// Chores in one round, at most.
const CHORES_MAX: usize = 256;
/// Writes in one batch of a round: it is closed with the chore that passes this.
const WRITES_MAX: usize = 2_000;
/// Tokens or leases that one chore revokes in one batch, at most.
const REVOKED_MAX: usize = 200;
/// Records that one chore erases in one batch, at most.
const ERASED_MAX: usize = 1_000;
/// How long an engine may take to undo a lease.
const UNDO_MAX: Duration = Duration::from_secs(30);

/// How the chores of this node went, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChoreCounts {
    /// Done.
    pub done: u64,
    /// Attempts in vain, which are repeated.
    pub failed: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(crate) fn counts(&self) -> ChoreCounts {
        ChoreCounts { done: self.done.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error("read the records")]
    Access(#[from] AccessError),
    #[error("read a record")]
    Plan(#[from] PlanError),
    #[error("write")]
    Commit(#[from] CommitError),
}

impl From<ViewError> for RoundError {
    fn from(error: ViewError) -> RoundError {
        RoundError::Plan(PlanError::View(error))
    }
}

/// What a chore comes to.
pub(crate) enum Step {
    /// Done with these writes.
    Done(Plan),
    /// These writes, and then more: it stays.
    More(Plan),
    /// As [`Step::More`], and what it does is from now on this.
    Next(Plan, Task),
}

/// What the chores work on.
pub(crate) struct Reaper<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) caches: &'a std::sync::Arc<Caches>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) counters: &'a Counters,
    /// Told when something may be due before the next look.
    pub(crate) wake: &'a tokio::sync::Notify,
    pub(crate) undoers: Undoers,
    /// What this node runs.
    pub(crate) software: Software,
}

impl Reaper<'_> {
    /// Does what is due, whenever this node leads, for ever. May be dropped at any time: a chore is done whole or not at all.
    pub(crate) async fn run(&self) {
        let mut is_noted = false;
        loop {
            let round = async {
                if !is_noted {
                    is_noted = self.note_version().await?;
                }
                self.round().await
            };
            let pause = match round.await {
                // There may be more.
                Ok(taken) if taken >= CHORES_MAX => Duration::ZERO,
                Ok(_) => PAUSE,
                Err(RoundError::Access(AccessError::Sealed) | RoundError::Commit(CommitError::Sealed)) => PAUSE,
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(%error, source, "chores wait");
                    PAUSE_AFTER_ERROR
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Notes that this node's version leads, if it does: whether that is known now.
    async fn note_version(&self) -> Result<bool, RoundError> {
        if !self.store.leads() {
            return Ok(false);
        }
        let records = self.records().await?;
        match versions::note(&records, &self.software, self.clock.now())? {
            None => Ok(true),
            Some(plan) => match self.store.commit(&records.view, &plan).await {
                Ok(_) => Ok(true),
                // Somebody else has written: it is looked at again.
                Err(CommitError::Conflict) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// One round: how many chores were taken. A chore that stays counts as a full round, so that it goes on at once.
    pub(crate) async fn round(&self) -> Result<usize, RoundError> {
        if !self.store.leads() {
            return Ok(0);
        }
        let mut records = self.records().await?;
        let now = self.clock.now();
        let due = due::take(&records.view, now, CHORES_MAX, &mut 0)?;
        let mut taken = due.len();
        let mut batch = Plan::new();
        let mut members = Vec::new();
        for chore in &due {
            // It writes what it has read, and so shares no batch with what may delete that.
            let is_alone = matches!(chore.task(), Some(Task::OrphanChildren(_) | Task::UpgradeMount(_) | Task::PurgeNamespace(_)));
            if is_alone && !batch.is_empty() {
                self.commit(&records, &std::mem::take(&mut batch), &std::mem::take(&mut members), now).await?;
                records = self.records().await?;
            }
            let (plan, stays) = match chore.task() {
                Some(Task::RevokeLease(reference)) if reference.at_once => (self.undo_lease(&records, chore, reference, now).await?, false),
                Some(task) => match step(&records, task, now) {
                    Ok(Step::Done(mut plan)) => {
                        chore.done(&mut plan);
                        self.counters.done.fetch_add(1, Ordering::Relaxed);
                        (plan, false)
                    }
                    Ok(Step::More(mut plan)) => {
                        chore.expect(&mut plan);
                        (plan, true)
                    }
                    Ok(Step::Next(mut plan, task)) => {
                        chore.becomes(task, &mut plan);
                        (plan, true)
                    }
                    Err(PlanError::View(error @ (ViewError::Sealed | ViewError::Table(_)))) => return Err(error.into()),
                    Err(error) => (self.failed(chore, &error.to_string(), now), false),
                },
                None => (self.failed(chore, "the chore's record makes no sense", now), false),
            };
            if stays {
                taken = CHORES_MAX;
            }
            members.push(chore);
            batch.append(plan);
            if batch.len() >= WRITES_MAX || is_alone {
                self.commit(&records, &std::mem::take(&mut batch), &std::mem::take(&mut members), now).await?;
            }
        }
        self.commit(&records, &batch, &members, now).await?;
        Ok(taken)
    }

    async fn records(&self) -> Result<Records, RoundError> {
        Ok(Records::new(self.store.view().await?, std::sync::Arc::clone(self.caches)))
    }

    /// Carries several chores out together. When somebody wrote what one of them was planned on, each is planned and carried out by itself;
    /// what conflicts even then is left for the next round.
    async fn commit(&self, records: &Records, batch: &Plan, members: &[&Due], now: Timestamp) -> Result<(), RoundError> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.store.commit(&records.view, batch).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        for chore in members {
            let records = self.records().await?;
            let plan = match chore.task() {
                None => continue,
                // It was undone; it is undone again in the next round.
                Some(Task::RevokeLease(reference)) if reference.at_once => continue,
                Some(task) => match step(&records, task, now) {
                    Ok(Step::Done(mut plan)) => {
                        chore.done(&mut plan);
                        plan
                    }
                    Ok(Step::More(mut plan)) => {
                        chore.expect(&mut plan);
                        plan
                    }
                    Ok(Step::Next(mut plan, task)) => {
                        chore.becomes(task, &mut plan);
                        plan
                    }
                    Err(_) => continue,
                },
            };
            match self.store.commit(&records.view, &plan).await {
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Plans another attempt.
    fn failed(&self, chore: &Due, error: &str, now: Timestamp) -> Plan {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(error, attempts = chore.chore.as_ref().map_or(0, |chore| chore.attempts), "a chore failed and will be tried again");
        let mut plan = Plan::new();
        chore.put_off(error, now, &mut plan);
        plan
    }

    /// Has an engine undo a lease that has ended and was set aside.
    async fn undo_lease(
        &self,
        records: &Records,
        chore: &Due,
        reference: &stored::LeaseReference,
        now: Timestamp,
    ) -> Result<Plan, RoundError> {
        let mut plan = Plan::new();
        match lease::find_ended(records, &reference.namespace_id, &reference.lease_id) {
            Ok(None) => {}
            Ok(Some((secret, revision))) => {
                if let Err(error) = self.undo(&reference.lease_id, &secret).await {
                    if !reference.force {
                        return Ok(self.failed(chore, &error, now));
                    }
                    tracing::warn!(error, kind = secret.kind, "a lease was forced out; what it stood for may still be there");
                }
                lease::forget(&reference.namespace_id, &reference.lease_id, revision, &mut plan);
            }
            Err(PlanError::View(error @ (ViewError::Sealed | ViewError::Table(_)))) => return Err(error.into()),
            Err(error) => return Ok(self.failed(chore, &error.to_string(), now)),
        }
        chore.done(&mut plan);
        self.counters.done.fetch_add(1, Ordering::Relaxed);
        Ok(plan)
    }

    async fn undo(&self, lease_id: &str, secret: &stored::SecretLease) -> Result<(), String> {
        let undoer = (self.undoers)(&secret.kind).ok_or_else(|| format!("no engine of kind {:?} undoes leases", secret.kind))?;
        let undone = tokio::time::timeout(UNDO_MAX, undoer.undo(lease_id, &secret.payload)).await;
        undone.unwrap_or_else(|_| Err(format!("the engine took longer than {} s", UNDO_MAX.as_secs())))
    }
}

/// What a chore that needs nobody outside comes to on these records.
fn step(records: &Records, task: &Task, now: Timestamp) -> Result<Step, PlanError> {
    match task {
        Task::ExpireToken(reference) => expire_token(records, reference, now),
        Task::RevokeChildren(reference) => clean_up(records, reference, now),
        Task::OrphanChildren(reference) => orphan_children(records, reference),
        Task::EraseRecords(erase) => erase_records(records, erase),
        Task::PurgeMount(uuid) => purge::mount(records, uuid),
        Task::EndMountLeases(gone) => purge::mount_leases(records, gone, now),
        Task::PurgeNamespace(id) => purge::namespace(records, id, now),
        Task::UpgradeMount(reference) => purge::upgrade(records, reference, now),
        Task::RevokePrefix(reference) => revoke_prefix(records, reference, now),
        Task::RevokeLease(reference) => expire_lease(records, reference, now),
    }
}

/// The time of an engine's lease is over: it is set aside to be undone.
fn expire_lease(records: &Records, reference: &stored::LeaseReference, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    if let Some(found) = lease::find(records, &reference.namespace_id, &reference.lease_id)? {
        // One that was renewed has another chore at its new end.
        let is_over = matches!(&found.what, What::Secret(secret) if now.0 >= secret.expires_ms);
        if is_over {
            lease::revoke(records, reference, found, now, &mut plan)?;
        }
    }
    Ok(Step::Done(plan))
}

/// A token's time is over: its records go.
fn expire_token(records: &Records, reference: &stored::TokenParent, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let record = records.token(&reference.namespace_id, &reference.tag)?;
    // One that was renewed has another chore at its new end; one that is gone needs none.
    if let Some(token) = record.value
        && !token.children_are_orphans
        && !token::is_alive(&token, now)
    {
        plan.expect(records::token_name(&reference.namespace_id, &reference.tag), record.revision);
        token::end(&token, reference, leaves_something(records, reference)?, now, &mut plan);
    }
    Ok(Step::Done(plan))
}

/// Whether a token has children, leases or secrets of its own.
fn leaves_something(records: &Records, reference: &stored::TokenParent) -> Result<bool, PlanError> {
    let (id, tag) = (&reference.namespace_id, &reference.tag);
    for folder in [records::children_folder(id, tag), records::token_leases_folder(id, tag), records::cubbyhole_folder(id, tag)] {
        if !records.view.keys_below(&folder, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The namespace and the tag that a child's record names.
fn child_of(name: &Name) -> Option<stored::TokenParent> {
    let (namespace_id, tag) = name.as_str().split_once('/')?;
    Some(stored::TokenParent { namespace_id: namespace_id.to_owned(), tag: hex::decode(tag).ok()? })
}

/// A token has ended: its children end, its leases too, and its secrets are erased.
fn clean_up(records: &Records, reference: &stored::TokenParent, now: Timestamp) -> Result<Step, PlanError> {
    let (id, tag) = (&reference.namespace_id, &reference.tag);
    let mut plan = Plan::new();
    if records.token(id, tag)?.value.is_some() {
        // Another token has come to the same text since; that was allowed only after nothing of this one was left.
        return Ok(Step::Done(plan));
    }
    let folder = records::children_folder(id, tag);
    let children = records.view.names_below(&folder, REVOKED_MAX)?;
    for name in &children {
        plan.delete(folder.join(name.as_str()));
        let Some(child) = child_of(name) else { continue };
        let record = records.token(&child.namespace_id, &child.tag)?;
        if let Some(token) = record.value
            && token.parent.as_ref() == Some(reference)
        {
            plan.expect(records::token_name(&child.namespace_id, &child.tag), record.revision);
            // The child has been dead since its parent was gone, so nothing is added to it any more.
            token::end(&token, &child, leaves_something(records, &child)?, now, &mut plan);
        }
    }
    let folder = records::token_leases_folder(id, tag);
    let leases = records.view.names_below(&folder, REVOKED_MAX)?;
    for lease_id in &leases {
        let held = records.view.read(&folder.join(lease_id.as_str()))?;
        // EXPOSE: the id of a namespace.
        let namespace_id = held.value.map(|value| String::from_utf8_lossy(value.expose()).into_owned()).unwrap_or_default();
        plan.delete(folder.join(lease_id.as_str()));
        let lease = stored::LeaseReference { namespace_id, lease_id: lease_id.as_str().to_owned(), at_once: true, force: false };
        if let Some(found) = lease::find(records, &lease.namespace_id, &lease.lease_id)? {
            lease::revoke(records, &lease, found, now, &mut plan)?;
        }
    }
    let secrets = records.view.keys_below(&records::cubbyhole_folder(id, tag), ERASED_MAX)?;
    let is_more = children.len() == REVOKED_MAX || leases.len() == REVOKED_MAX || secrets.len() == ERASED_MAX;
    secrets.into_iter().for_each(|key| plan.erase(key));
    Ok(if is_more { Step::More(plan) } else { Step::Done(plan) })
}

/// A token has ended and left its children: each is told that it has no parent, then the mark that it left goes.
fn orphan_children(records: &Records, reference: &stored::TokenParent) -> Result<Step, PlanError> {
    let (id, tag) = (&reference.namespace_id, &reference.tag);
    let mut plan = Plan::new();
    let mark = records.token(id, tag)?;
    if !mark.value.is_some_and(|token| token.children_are_orphans) {
        return Ok(Step::Done(plan));
    }
    let folder = records::children_folder(id, tag);
    let children = records.view.names_below(&folder, REVOKED_MAX)?;
    for name in &children {
        plan.delete(folder.join(name.as_str()));
        let Some(child) = child_of(name) else { continue };
        let record = records.token(&child.namespace_id, &child.tag)?;
        if let Some(token) = record.value
            && token.parent.as_ref() == Some(reference)
        {
            let name = records::token_name(&child.namespace_id, &child.tag);
            plan.expect(name.clone(), record.revision);
            let orphan = stored::Token { orphan: true, parent: None, ..(*token).clone() };
            plan.put(name, crypto::SecretBytes::from(prost::Message::encode_to_vec(&orphan)));
        }
    }
    if children.len() == REVOKED_MAX {
        return Ok(Step::More(plan));
    }
    // Its leases and its secrets end with it; then the mark is out of the way.
    let leases = records.view.keys_below(&records::token_leases_folder(id, tag), 1)?;
    let secrets = records.view.keys_below(&records::cubbyhole_folder(id, tag), 1)?;
    plan.expect(records::token_name(id, tag), mark.revision);
    plan.delete(records::token_name(id, tag));
    if !leases.is_empty() || !secrets.is_empty() {
        token::plan_cleaning(reference, Timestamp(0), &mut plan);
    }
    Ok(Step::Done(plan))
}

/// Erases what lies below a folder, as much as fits into one batch.
fn purge(records: &Records, folder: &Name) -> Result<Step, PlanError> {
    let keys = records.view.keys_below(folder, ERASED_MAX)?;
    let is_more = keys.len() == ERASED_MAX;
    let mut plan = Plan::new();
    keys.into_iter().for_each(|key| plan.erase(key));
    Ok(if is_more { Step::More(plan) } else { Step::Done(plan) })
}

/// Erases records, and what lies below folders: one folder after another.
fn erase_records(records: &Records, erase: &stored::EraseRecords) -> Result<Step, PlanError> {
    for folder in &erase.folders {
        let step = purge(records, &Name::new(folder))?;
        match step {
            Step::Done(plan) if plan.is_empty() => {}
            // Whether it was the last is seen when nothing is left.
            Step::Done(plan) | Step::More(plan) => return Ok(Step::More(plan)),
            next @ Step::Next(..) => return Ok(next),
        }
    }
    let mut plan = Plan::new();
    erase.names.iter().for_each(|name| plan.delete(Name::new(name)));
    Ok(Step::Done(plan))
}

/// Revokes the leases below a prefix, as many as fit into one batch. Done once it has seen all of them at once.
fn revoke_prefix(records: &Records, reference: &stored::LeaseReference, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let is_more = lease::revoke_below(records, reference, REVOKED_MAX, now, &mut plan)?;
    Ok(if is_more { Step::More(plan) } else { Step::Done(plan) })
}

#[cfg(test)]
mod tests;

//! What people do to accounts: shut and restore them, extend them, open and close tasks.
//!
//! Each is durable when it is answered, so that no crash takes back what somebody was told. Only tasks are an agent's
//! to open and close, and only those below its own account.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{
    peer::Peer,
    registry::Opening,
    service::{Service, check_all_labels, failed},
    wire::{Answer, EXTEND_S_MAX, Fault, FaultKind, Opened, REASON_BYTES_MAX},
};
use crate::{
    accounts::TaskStatus,
    cashier::Given,
    clock::{self, Timestamp},
    ids::AccountPath,
    labels::Labels,
    money::Pico,
};

impl Service {
    /// The kernel refuses from the moment on in which this stores one word; what is under way is cut right after.
    pub(super) fn revoke(
        &self,
        peer: &Peer,
        account: AccountPath,
        reason: &str,
        runtime: &Handle,
    ) -> Result<Answer, Fault> {
        self.outside(peer, "revoke")?;
        check_reason(reason)?;
        self.status_of(&account)?;
        let changed =
            self.cashier.revoke(&account, reason, Some(peer.uid), clock::now()).map_err(|error| failed(&error))?;
        self.shut(account, changed, runtime)
    }

    pub(super) fn restore(&self, peer: &Peer, account: AccountPath, runtime: &Handle) -> Result<Answer, Fault> {
        self.outside(peer, "restore")?;
        self.status_of(&account)?;
        let changed = self.cashier.restore(&account, Some(peer.uid), clock::now()).map_err(|error| failed(&error))?;
        self.shut(account, changed, runtime)
    }

    fn shut(&self, account: AccountPath, changed: bool, runtime: &Handle) -> Result<Answer, Fault> {
        self.flush(runtime);
        let status = self.status_of(&account)?;
        Ok(Answer::Shut { account, changed, state: status.state.to_owned(), shut_by: status.shut_by })
    }

    pub(super) fn extend(
        &self,
        peer: &Peer,
        account: AccountPath,
        by: Pico,
        for_s: u64,
        runtime: &Handle,
    ) -> Result<Answer, Fault> {
        self.outside(peer, "extend")?;
        if !by.is_positive() || by > Pico::CAP {
            let message = format!("an extension is above $0 and not above ${}; write it like 0.50", Pico::CAP);
            return Err(Fault::new(FaultKind::Malformed, message));
        }
        if !(1..=EXTEND_S_MAX).contains(&for_s) {
            let message = "an extension lasts a second at least and a year at most; for longer, use `meter fund`";
            return Err(Fault::new(FaultKind::Malformed, message));
        }
        self.status_of(&account)?;
        let now = clock::now();
        let micros = i64::try_from(Duration::from_secs(for_s).as_micros()).unwrap_or(i64::MAX);
        let until = Timestamp::from_micros(now.micros().saturating_add(micros));
        let remaining_usd = self.cashier.extend(&account, by, until, peer.uid, now).map_err(|error| failed(&error))?;
        self.flush(runtime);
        Ok(Answer::Extended { account, until, remaining_usd })
    }

    pub(super) fn make_task(
        &self,
        peer: &Peer,
        account: &AccountPath,
        given: Given,
        extra_roots_pem: &str,
    ) -> Result<Opened, Fault> {
        may_open(self.account_of(peer)?.as_ref(), account)?;
        self.open(peer, account.clone(), &Opening { given, extra_roots_pem, pid: None, closer: None })
    }

    pub(super) fn close_task(
        &self,
        peer: &Peer,
        account: AccountPath,
        status: TaskStatus,
        runtime: &Handle,
    ) -> Result<Answer, Fault> {
        let inside = self.account_of(peer)?;
        // The process that runs a task and said so when it opened it, and nobody else inside.
        let is_closer =
            inside.as_ref() == Some(&account) && self.registry.closer(&account).is_some_and(|c| c == peer.token());
        if !is_closer {
            may_open(inside.as_ref(), &account)?;
        }
        self.status_of(&account)?;
        let changed = self.registry.close(&account, status, peer.uid, clock::now()).map_err(|error| failed(&error))?;
        self.flush(runtime);
        let now = self.status_of(&account)?;
        let status = now.status.unwrap_or(status.as_str()).to_owned();
        Ok(Answer::Closed { account, status, changed, spent_usd: now.spent_usd })
    }

    /// Whether these labels may be given. An agent can add some of its own, and can't change those of people.
    pub(super) fn check_labels(&self, peer: &Peer, account: &AccountPath, labels: &Labels) -> Result<(), Fault> {
        check_all_labels(labels)?;
        if labels.is_empty() || self.account_of(peer)?.is_none() {
            return Ok(());
        }
        let Some(known) = account.line().find_map(|at| self.cashier.status_of(&at)) else { return Ok(()) };
        let other = labels.iter().find(|(key, value)| known.labels.get(*key).is_some_and(|own| own != *value));
        other.map_or(Ok(()), |(key, _)| {
            let message = format!(
                "the label {key} of {} is set from outside, and a process of the account can't change it; leave it out",
                known.account
            );
            Err(Fault::new(FaultKind::Forbidden, message))
        })
    }
}

/// Whether a process may open and close that task: from outside any, from inside an account those below it.
fn may_open(inside: Option<&AccountPath>, account: &AccountPath) -> Result<(), Fault> {
    if !account.is_task() {
        let message = format!("{account} is no task; name one below its agent, like {}/nightly-7", account.agent());
        return Err(Fault::new(FaultKind::Malformed, message));
    }
    match inside {
        Some(inside) if account == inside || !account.is_within(inside) => {
            let message = format!(
                "a process of the account {inside} can only open and close tasks below it, like {inside}/part-1"
            );
            Err(Fault::new(FaultKind::Forbidden, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// It stands in refusals, in the log and on terminals.
fn check_reason(reason: &str) -> Result<(), Fault> {
    if (1..=REASON_BYTES_MAX).contains(&reason.len()) && !reason.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("a reason is 1 to {REASON_BYTES_MAX} bytes of text on one line; shorten it");
    Err(Fault::new(FaultKind::Malformed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AccountPath {
        text.parse().unwrap()
    }

    #[test]
    fn from_inside_an_account_only_tasks_below_it_are_opened_and_closed() {
        let inside = path("a/t");
        assert_eq!(may_open(Some(&inside), &path("a/t/u")), Ok(()));
        assert_eq!(may_open(Some(&inside), &path("a/t/u/v")), Ok(()));
        for other in ["a/t", "a/u", "b/t", "a/t2"] {
            let fault = may_open(Some(&inside), &path(other)).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Forbidden, "{other}");
        }
        assert_eq!(may_open(None, &path("b/t")), Ok(()));
    }

    #[test]
    fn agents_and_the_host_are_no_tasks() {
        for name in ["a", "host"] {
            assert_eq!(may_open(None, &path(name)).unwrap_err().kind, FaultKind::Malformed, "{name}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_text() {
        assert_eq!(check_reason("runs wild"), Ok(()));
        for bad in ["", "a\nb", "\u{1b}[2J", &"x".repeat(REASON_BYTES_MAX + 1)] {
            assert!(check_reason(bad).is_err(), "{bad:?}");
        }
    }
}

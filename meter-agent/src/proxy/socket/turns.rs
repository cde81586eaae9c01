//! The money of a WebSocket: a hold for each turn before it can begin, and a row when it ends.
//!
//! Between turns nothing is held. What the agent says then may begin one, so that it is kept back until the turn is
//! held; the hold grows with what the agent says after that, before the message that makes the turn dearer is whole on
//! the provider's side. A hold of which nothing was used is given back without a row.
//!
//! A provider may begin a turn by itself. It is held as soon as the provider says so; where that can't be, it runs to
//! its end, is charged in full, and is the last.

mod rules;

use std::sync::Arc;

use meter_common::AccountRef;

use super::refusal::Closing;
use crate::{
    cashier::{Asked, Cashier, Durability, DurableWait, Hold, Refused},
    clock,
    exchange::{End, Opening},
    ids::Process,
    proxy::{Shared, http::Session, live::Live, problem},
    usage::{Problem, Reading, RequestFacts, SocketReader, websocket::Event},
};

/// What the row of a turn has for a status: that of the upgrade.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Turns {
    shared: Arc<Shared>,
    account: AccountRef,
    process: Arc<Process>,
    /// A subscription pays.
    on_plan: bool,
    /// Of the socket; each turn has its own time.
    opening: Opening,
    reader: Box<dyn SocketReader>,
    /// The upgrade itself, until the first turn: what no turn follows has a row all the same.
    upgrade: Option<Live>,
    /// The turn that asks to be admitted.
    asking: Option<Live>,
    /// The turn that is under way, or may begin.
    live: Option<Live>,
    /// Tells when the hold's row is durable, until somebody has waited for that.
    durable: Option<DurableWait>,
    /// What the hold was taken for, or the models last looked at.
    facts: RequestFacts,
    /// The agent has said something since the last turn ended.
    begun: bool,
    /// What looks to the reader like a turn is a message that did not leave.
    kept_back: bool,
    /// A message of this turn could not be read.
    missed: bool,
    /// Turns that ended with a row.
    ended: u64,
    /// No turn may begin any more.
    stopping: bool,
    /// Why, where a turn could not be held that the provider had begun.
    refused: Option<Box<Problem>>,
}

/// What a turn can cost. A message can't be changed, so none is given a ceiling.
pub(super) fn facts(reader: &dyn SocketReader) -> RequestFacts {
    RequestFacts { can_clamp: false, stream: true, ..reader.facts() }
}

impl Turns {
    /// `live` is the upgrade's, which has the first turn's hold where the model was named already.
    pub(super) fn new(
        session: &Session,
        opening: Opening,
        reader: Box<dyn SocketReader>,
        facts: RequestFacts,
        mut live: Live,
    ) -> Self {
        let peer = &session.target.peer;
        let on_plan = live.open().on_plan;
        let is_held = live.open().hold.is_some();
        let (upgrade, live) = if is_held { (None, Some(live)) } else { (Some(live), None) };
        Self {
            shared: Arc::clone(&session.shared),
            account: peer.account,
            process: Arc::clone(&peer.process),
            on_plan,
            opening,
            reader,
            upgrade,
            asking: None,
            live,
            durable: None,
            facts,
            begun: false,
            kept_back: false,
            missed: false,
            ended: 0,
            stopping: false,
            refused: None,
        }
    }

    pub(super) fn cashier(&self) -> Arc<Cashier> {
        Arc::clone(&self.shared.cashier)
    }

    /// Takes notice of what the agent said, before its last byte is passed on. What the turn asks for that the message
    /// may begin: then it is passed on only after [`Turns::admitted`].
    pub(super) fn sent(&mut self, event: Event) -> Result<Option<Box<Asked>>, Closing> {
        let was_idle = !self.reader.is_under_way();
        let is_read = match event {
            Event::Message(message) => {
                self.reader.sent(&message);
                true
            }
            Event::Missed => false,
            Event::Close => return Ok(None),
        };
        (self.begun, self.kept_back) = (true, was_idle && self.reader.is_under_way());
        if !is_read {
            self.permit(None)?;
            self.missed = true;
        }
        if self.live.is_some() {
            self.grow()?;
            self.kept_back = false;
            return Ok(None);
        }
        if self.stopping {
            return Err(self.stopped());
        }
        let (live, asked) = self.next()?;
        self.asking = Some(live);
        Ok(Some(Box::new(asked)))
    }

    /// What became of the turn that asked. The message that begins it may be passed on now, or once the hold's row is
    /// durable, where there is something to wait for.
    pub(super) fn admitted(&mut self, admitted: Result<Hold, Refused>) -> Result<Option<DurableWait>, Closing> {
        self.kept_back = false;
        match (admitted, self.asking.take()) {
            (Ok(hold), Some(asking)) => self.hold(asking, hold),
            (Ok(hold), None) => hold.release(),
            (Err(refused), asking) => {
                self.asking = asking;
                return Err(self.refuse(&problem::refused(refused)));
            }
        }
        let is_strict = self.shared.cashier.durability() == Durability::Strict;
        Ok(self.durable.take_if(|_| is_strict))
    }

    /// Takes notice of what the provider said.
    pub(super) fn received(&mut self, event: Event) -> Result<(), Closing> {
        let reading = match event {
            Event::Message(message) => self.reader.received(&message),
            Event::Missed => {
                self.missed = true;
                None
            }
            Event::Close => None,
        };
        match reading {
            Some(reading) => self.ended(reading)?,
            None => self.grow()?,
        }
        // What the agent has said and is kept back yet looks like a turn too.
        if self.live.is_none() && self.asking.is_none() && self.reader.is_under_way() {
            self.begun_by_provider()?;
        }
        Ok(())
    }

    /// What has to be waited for before anything more is passed to the agent.
    pub(super) fn durable(&mut self) -> Option<DurableWait> {
        self.durable.take()
    }

    /// No turn may begin from here on. Why the socket ends at once, where none is under way.
    pub(super) fn stop(&mut self) -> Option<Closing> {
        self.stopping = true;
        let under_way = self.begun && self.live.is_some();
        (!under_way).then(|| self.stopped())
    }

    /// The ledger could not be written: what was held for the turn is given back.
    pub(super) fn ledger_fault(&mut self, why: &str) -> Closing {
        if let Some(live) = self.live.take() {
            live.end(&End::LedgerFault { status: SWITCHING_PROTOCOLS, why: why.to_owned() });
        }
        Closing::fault(format!("meter: the ledger can't be written ({why})"))
    }

    /// The socket is closed: an unfinished turn is charged for what it is taken to have used.
    pub(super) fn close(&mut self, end: &End) {
        if let Some(asking) = self.asking.take() {
            asking.end(end);
        }
        if let Some(mut upgrade) = self.upgrade.take() {
            upgrade.open().reading = Some(Reading::free("no turn was begun"));
            upgrade.end(&End::Complete);
        }
        let Some(mut live) = self.live.take() else { return };
        match self.reader.finish().filter(|_| !self.kept_back) {
            Some(reading) => live.end_with(reading, end),
            // Whatever was in it, it may have been a whole turn.
            None if self.missed => live.end_with(Reading::absent(), end),
            None if self.ended > 0 => live.release(),
            None => {
                live.open().reading = Some(Reading::free("no turn was begun"));
                live.end(&End::Complete);
            }
        }
    }

    fn ended(&mut self, reading: Reading) -> Result<(), Closing> {
        let live = match self.live.take() {
            Some(live) => live,
            // Nothing said that it had begun.
            None => self.answered(),
        };
        live.end_with(reading, &End::Complete);
        self.ended += 1;
        (self.begun, self.missed) = (self.asking.is_some(), false);
        match self.refused.take() {
            Some(problem) => Err(self.refuse(&problem)),
            None if self.stopping => Err(self.stopped()),
            None => Ok(()),
        }
    }

    /// The next turn, and what it asks for.
    fn next(&mut self) -> Result<(Live, Asked), Closing> {
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.release();
        }
        self.facts = facts(self.reader.as_ref());
        let mut live = self.turn();
        let open = live.open();
        let at = open.exchange.started_at();
        let quote = open.prices.admit(self.opening.seller(), &self.facts, at, self.on_plan);
        let request = Arc::new(open.exchange.request_line());
        match quote {
            Ok(quote) => {
                let (account, process) = (self.account, Arc::clone(&self.process));
                let fallbacks = self.facts.fallbacks.clone();
                Ok((live, Asked { account, process, request, quote, fallbacks, degraded: false, fingerprint: None }))
            }
            Err(error) => {
                live.release();
                Err(self.refuse(&problem::no_price(&error.to_string())))
            }
        }
    }

    /// A turn that begins now.
    fn turn(&self) -> Live {
        let (at, monotonic_ns) = (clock::now(), clock::monotonic_ns());
        let mut live = Live::new(Opening { at, monotonic_ns, ..self.opening.clone() }, &self.shared);
        let open = live.open();
        open.exchange.asked(self.facts.model.clone(), true);
        open.exchange.plan(self.on_plan);
        live
    }

    /// A turn that the provider has begun.
    fn answered(&self) -> Live {
        let mut live = self.turn();
        let exchange = &mut live.open().exchange;
        exchange.sent();
        exchange.answered(SWITCHING_PROTOCOLS, None, clock::monotonic_ns());
        live
    }

    fn hold(&mut self, mut live: Live, mut hold: Hold) {
        self.durable = Some(hold.durable_wait());
        let open = live.open();
        open.exchange.admitted(hold.id, hold.amount, None);
        open.exchange.sent();
        open.exchange.answered(SWITCHING_PROTOCOLS, None, clock::monotonic_ns());
        open.hold = Some(hold);
        self.live = Some(live);
    }

    /// Nobody asked whether it may: it is there. It does not wait, since it would not stand still meanwhile.
    fn begun_by_provider(&mut self) -> Result<(), Closing> {
        self.begun = true;
        let (live, asked) = self.next()?;
        match self.shared.cashier.admit_now(&asked, clock::now()) {
            Ok(hold) => self.hold(live, hold),
            Err(refused) => {
                live.release();
                self.live = Some(self.answered());
                self.refused = Some(Box::new(problem::refused(refused)));
            }
        }
        Ok(())
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.close(&End::AgentGone);
    }
}

//! The money of a WebSocket: a hold for the turn that may come, and a row for each that was.
//!
//! The next turn's hold is taken as soon as one has ended, since the provider may begin it by itself; it grows with
//! what the agent sends, before the message that makes it dearer is whole on the provider's side. A hold of which
//! nothing was used is given back without a row.

use std::sync::Arc;

use meter_common::AccountRef;

use crate::{
    cashier::{Asked, DurableWait},
    clock,
    exchange::{End, Opening},
    ids::Process,
    proxy::{Shared, http::Session, live::Live, problem},
    usage::{Problem, Reading, RequestFacts, SocketReader, websocket::Event},
};

/// What the row of a turn has for a status: that of the upgrade.
const SWITCHING_PROTOCOLS: u16 = 101;
/// Close codes of RFC 6455, section 7.4.1.
pub(super) const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;

/// Why the meter ends a socket, in the words of its close frame.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) code: u16,
    pub(super) sentence: String,
}

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
    /// The turn that is under way, or may begin.
    live: Option<Live>,
    /// What its hold was taken for.
    facts: RequestFacts,
    /// The agent has said something since the last turn ended.
    begun: bool,
    /// A message of this turn could not be read.
    missed: bool,
    /// Turns that ended with a row.
    ended: u64,
    /// No turn may begin any more.
    stopping: bool,
}

/// What a turn can cost. A message can't be changed, so none is given a ceiling.
pub(super) fn facts(reader: &dyn SocketReader) -> RequestFacts {
    RequestFacts { can_clamp: false, stream: true, ..reader.facts() }
}

impl Turns {
    /// `live` has the first turn's hold.
    pub(super) fn new(
        session: &Session,
        opening: Opening,
        reader: Box<dyn SocketReader>,
        facts: RequestFacts,
        mut live: Live,
    ) -> Self {
        let peer = &session.target.peer;
        Self {
            on_plan: live.open().on_plan,
            shared: Arc::clone(&session.shared),
            account: peer.account,
            process: Arc::clone(&peer.process),
            opening,
            reader,
            live: Some(live),
            facts,
            begun: false,
            missed: false,
            ended: 0,
            stopping: false,
        }
    }

    /// Takes notice of what the agent said, before its last byte is passed on.
    pub(super) fn sent(&mut self, event: Event) -> Result<(), Closing> {
        match event {
            Event::Message(message) => self.reader.sent(&message),
            Event::Missed => self.missed = true,
            Event::Close => return Ok(()),
        }
        self.begun = true;
        self.grow()
    }

    /// Takes notice of what the provider said. Where that ended a turn, the next one's hold is taken, which must be
    /// durable before anything more is passed on.
    pub(super) fn received(&mut self, event: Event) -> Result<Option<DurableWait>, Closing> {
        let reading = match event {
            Event::Message(message) => self.reader.received(&message),
            Event::Missed => {
                self.missed = true;
                None
            }
            Event::Close => None,
        };
        let Some(reading) = reading else { return Ok(None) };
        if let Some(live) = self.live.take() {
            live.end_with(reading, &End::Complete);
            self.ended += 1;
        }
        (self.begun, self.missed) = (false, false);
        if self.stopping {
            return Err(stopped());
        }
        self.next().map(Some)
    }

    /// No turn may begin from here on. Why the socket ends at once, where none is under way.
    pub(super) fn stop(&mut self) -> Option<Closing> {
        self.stopping = true;
        (!self.begun).then(stopped)
    }

    /// The ledger could not be written: what was held for the next turn is given back.
    pub(super) fn ledger_fault(&mut self, why: &str) -> Closing {
        if let Some(live) = self.live.take() {
            live.end(&End::LedgerFault { status: SWITCHING_PROTOCOLS, why: why.to_owned() });
        }
        Closing { code: INTERNAL_ERROR, sentence: format!("meter: the ledger can't be written ({why})") }
    }

    /// The socket is closed: an unfinished turn is charged for what it is taken to have used.
    pub(super) fn close(&mut self, end: &End) {
        let Some(mut live) = self.live.take() else { return };
        match self.reader.finish() {
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

    fn next(&mut self) -> Result<DurableWait, Closing> {
        let (at, monotonic_ns) = (clock::now(), clock::monotonic_ns());
        self.facts = facts(self.reader.as_ref());
        let mut live = Live::new(Opening { at, monotonic_ns, ..self.opening.clone() }, &self.shared);
        let open = live.open();
        open.exchange.asked(self.facts.model.clone(), true);
        open.exchange.plan(self.on_plan);
        let quote = open.prices.admit(self.opening.seller(), &self.facts, at, self.on_plan);
        let request = Arc::new(open.exchange.request_line());
        let admitted = quote.map_err(|error| Box::new(problem::no_price(&error.to_string()))).and_then(|quote| {
            let (account, process) = (self.account, Arc::clone(&self.process));
            let model_follows = request.requested_model.is_none();
            let asked = Asked { account, process, request, quote, degraded: false, model_follows, fingerprint: None };
            let admitted = self.shared.cashier.admit_now(&asked, at);
            admitted.map_err(|refused| Box::new(problem::refused(refused)))
        });
        match admitted {
            Ok(mut hold) => {
                let durable = hold.durable_wait();
                let open = live.open();
                open.exchange.admitted(hold.id, hold.amount, None);
                open.exchange.sent();
                open.exchange.answered(SWITCHING_PROTOCOLS, None, monotonic_ns);
                open.hold = Some(hold);
                self.live = Some(live);
                Ok(durable)
            }
            Err(refused) => {
                let sentence = refused.text();
                live.end(&refusal(refused.status, sentence.clone()));
                Err(Closing { code: POLICY_VIOLATION, sentence })
            }
        }
    }

    /// Holds more where the turn can cost more than it could.
    fn grow(&mut self) -> Result<(), Closing> {
        let facts = facts(self.reader.as_ref());
        if facts == self.facts {
            return Ok(());
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        let open = live.open();
        let at = open.exchange.started_at();
        let quote = open.prices.admit(self.opening.seller(), &facts, at, self.on_plan);
        self.facts = facts;
        // The message that names such a model is not whole on the provider's side yet.
        let quote = match quote {
            Ok(quote) => quote,
            Err(error) => return Err(self.refuse(&problem::no_price(&error.to_string()))),
        };
        let named = self.facts.model.as_deref();
        if let Some(model) = named
            && let Err(refused) = self.shared.cashier.permit(self.account, model, clock::now())
        {
            return Err(self.refuse(&problem::refused(refused)));
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        live.open().exchange.asked(self.facts.model.clone(), true);
        let Some(held) = live.open().hold.as_ref().map(|hold| hold.amount) else { return Ok(()) };
        let more = quote.worst().saturating_sub(held);
        if !more.is_positive() || live.grow(more) {
            return Ok(());
        }
        let sentence = format!(
            "meter: this turn can cost ${}, and a limit of account {} has no room beyond the ${held} held for it",
            quote.worst(),
            self.opening.account,
        );
        Err(self.refuse(&problem::refused_turn(sentence)))
    }

    /// Ends the turn for what it is taken to have used, with a row for why.
    fn refuse(&mut self, problem: &Problem) -> Closing {
        let sentence = problem.text();
        self.close(&End::Cut { status: None, why: sentence.clone() });
        let (at, monotonic_ns) = (clock::now(), clock::monotonic_ns());
        let refused = Live::new(Opening { at, monotonic_ns, ..self.opening.clone() }, &self.shared);
        refused.end(&refusal(problem.status, sentence.clone()));
        Closing { code: POLICY_VIOLATION, sentence }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.close(&End::AgentGone);
    }
}

/// How a turn ends that is refused: for want of money, or for what it is.
fn refusal(status: u16, why: String) -> End {
    match status {
        403 => End::RefusedRequest { status: SWITCHING_PROTOCOLS, why },
        _ => End::RefusedBudget { status: SWITCHING_PROTOCOLS, why },
    }
}

fn stopped() -> Closing {
    Closing { code: POLICY_VIOLATION, sentence: "meter: no more turns are admitted".to_owned() }
}

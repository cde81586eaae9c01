//! One entry after the other through the dialects, the exchange and the prices, as the live meter does it.
//!
//! What a recording adds: hosts that are not listed, requests whose body is missing, and background work whose result
//! may be further down, or not in the file at all.

use std::collections::HashSet;

use super::{
    BadEntry, Replayed, Setting, body,
    entry::{Message, Recorded},
    order::{Key, Order, Waiting},
    party::Party,
    payment, socket,
};
use crate::{
    clock::Timestamp,
    exchange::{
        End, Exchange, Opening, Outcome, REQUEST_IDS, Row, body_end,
        results::{Results, Verdict},
    },
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    usage::{
        AnswerHead, Billing, BodyEnd, Call, Dialect, Endpoint, Quality, Reading, RequestFacts, ResultRef, Standing,
        Usage, detect, providers::priced_at,
    },
};

/// The account that replayed rows are on.
const AGENT: &str = "replay";

/// Of a call, on a host that nobody listed, that may or may not cost.
pub(super) const NOT_METERED: &str =
    "not a metered API as far as the meter can tell; list its host in the config if it is one";

const UNDATED: &str = "the recording does not say when it was made; priced as of now";
/// The provider of what nobody sells.
const NOBODY: &str = "none";

pub(super) struct Meter<'a> {
    pub(super) setting: Setting<'a>,
    results: Results,
    /// Results that were charged, for work whose announcement comes after its result in the file.
    billed: HashSet<Key>,
    order: Order,
}

/// One entry with what was found out about it.
pub(super) struct Subject<'a> {
    pub(super) index: usize,
    pub(super) recorded: &'a Recorded,
    pub(super) party: Party,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) call: Call<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(setting: Setting<'a>) -> Self {
        Self { setting, results: Results::default(), billed: HashSet::new(), order: Order::default() }
    }

    pub(super) fn entry(&mut self, index: usize, recorded: &Recorded) {
        let subject = self.subject(index, recorded);
        let billing = subject.call.endpoint.billing;
        if billing == Billing::Socket || recorded.is_socket {
            socket::turns(self, &subject);
        } else {
            self.exchange(&subject);
        }
    }

    pub(super) fn ready(&mut self, each: &mut dyn FnMut(Result<Replayed, BadEntry>)) {
        self.order.ready(each);
    }

    /// The file has ended: what was announced and not seen is not charged yet, but its hold still stands.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Result<Replayed, BadEntry>)) {
        let prices = self.setting.prices;
        let unresolved = |waiting: Waiting| {
            let reason = Some("background work whose result is not in the recording; at most what is held for it");
            let reading = Reading { reason, ..Reading::absent() };
            let mut row = waiting.exchange.end(&waiting.end, Some(reading), prices, waiting.ended_ns);
            row.outcome = Outcome::Unresolved;
            row.cost_usd = Pico::ZERO;
            Replayed { index: waiting.index, row }
        };
        self.order.finish(unresolved, each);
    }

    /// The row is decided.
    pub(super) fn push(&mut self, subject: &Subject<'_>, mut row: Row) {
        if !subject.recorded.is_dated && row.cost_usd.is_positive() {
            let said = row.reason.take().map(|reason| format!("{reason}; ")).unwrap_or_default();
            row.reason = Some(format!("{said}{UNDATED}"));
        }
        self.order.push(Replayed { index: subject.index, row });
    }

    fn subject<'r>(&self, index: usize, recorded: &'r Recorded) -> Subject<'r> {
        let found = self.setting.hosts.find(&recorded.host, recorded.port);
        let (dialect, endpoint) = detect(found.as_ref().map(|f| f.dialect), &recorded.method, recorded.path());
        let has_header = |name: &str| recorded.request.header(name).is_some();
        let endpoint = endpoint.unless_overridden(&recorded.path_and_query, has_header);
        let party = Party::of(found.as_ref(), &recorded.host, dialect);
        let party = Party { price_provider: priced_at(party.price_provider, &recorded.path_and_query), ..party };
        let call = Call {
            endpoint,
            path_and_query: &recorded.path_and_query,
            content_type: &recorded.request.content_type,
            quirks: party.quirks,
        };
        Subject { index, recorded, party, dialect, call }
    }

    fn exchange(&mut self, subject: &Subject<'_>) {
        let recorded = subject.recorded;
        let facts = subject.facts();
        let reading = subject.reading(&facts, body_end(&end_of(recorded)));
        let (billing, why) = subject.billing(&facts, reading.as_ref());
        // Nobody asks for the rest of what costs nothing.
        let end = if billing == Billing::Free && recorded.status > 0 { End::Complete } else { end_of(recorded) };
        let mut exchange = subject.open(billing, recorded.at);
        exchange.asked(facts.model.clone(), facts.stream);
        let paid = payment::held(recorded);
        if matches!(billing, Billing::Metered | Billing::Unknown) || paid.is_some() {
            let bound = match billing {
                Billing::Metered | Billing::Unknown => self.worst(subject, &facts, recorded.at),
                Billing::Free | Billing::Result | Billing::Socket => Pico::ZERO,
            };
            exchange.admitted(ExchangeId::new(), bound.max(paid.unwrap_or_default()), None);
        }
        if recorded.left {
            exchange.sent();
        }
        if recorded.status > 0 {
            exchange.answered(recorded.status, request_id(&recorded.answer), nanos(recorded.ttfb_ms));
        }
        payment::settled(&mut exchange, recorded);
        let ended_ns = nanos(recorded.duration_ms);
        let result = reading.as_ref().and_then(|r| r.result.clone()).filter(|_| billing != Billing::Free);
        let key = result.as_ref().map(|r| (subject.party.provider.clone(), r.id.clone()));
        let reading = match (self.verdict(billing, key.as_ref(), result.as_ref()), key) {
            (Verdict::Wait, Some(key)) => {
                return self.order.wait(key, Waiting { index: subject.index, exchange, end, ended_ns });
            }
            (Verdict::Charge, Some(key)) => {
                self.seen(key, subject.index);
                reading
            }
            (Verdict::Repeat, Some(_)) => Some(Reading::free(why_repeat(result.as_ref()))),
            (Verdict::Charge | Verdict::Wait | Verdict::Repeat, _) => reading,
        };
        let mut row = exchange.end(&end, reading, self.setting.prices, ended_ns);
        let costs_nothing_here = why.is_some() && row.status.is_some_and(|status| status < 400) && is_nothing(&row);
        if row.reason.is_none() || costs_nothing_here {
            row.reason = match row.usage_quality {
                Quality::Exact if is_nothing(&row) => Some(why.unwrap_or_else(|| why_nothing(recorded)).to_owned()),
                Quality::Exact => None,
                Quality::Estimated | Quality::Absent => Some(why_not_exact(subject, billing).to_owned()),
            };
        }
        if billing == Billing::Free && !subject.party.is_listed() {
            // A guess at who sells what costs nothing would only mislead.
            NOBODY.clone_into(&mut row.provider);
        }
        self.push(subject, row);
    }

    /// The most that a request can cost: nothing where a subscription pays.
    pub(super) fn worst(&self, subject: &Subject<'_>, facts: &RequestFacts, at: Timestamp) -> Pico {
        let prices = self.setting.prices;
        let is_free = subject.on_plan() && !prices.counts_plans();
        if is_free { Pico::ZERO } else { prices.quote(subject.party.seller(), facts, at).worst() }
    }

    /// What an answer means for the result that it holds or announces.
    ///
    /// Only reads can be repeats: an order that is answered is an order, also if its answer is in the file twice.
    fn verdict(&mut self, billing: Billing, key: Option<&Key>, result: Option<&ResultRef>) -> Verdict {
        let (Some(key), Some(result)) = (key, result) else { return Verdict::Charge };
        let known = self.results.see(&key.0, result);
        match (billing, result.standing) {
            // A poll before the result is there orders nothing.
            (Billing::Result, Standing::Pending) => Verdict::Repeat,
            (Billing::Result, Standing::Final | Standing::Repeat) => known,
            (_, Standing::Pending) if self.billed.contains(key) => Verdict::Repeat,
            (_, Standing::Pending) => Verdict::Wait,
            (_, Standing::Final | Standing::Repeat) => Verdict::Charge,
        }
    }

    /// The result is here and charged by the entry `by`: what waited for it costs nothing of its own.
    fn seen(&mut self, key: Key, by: usize) {
        let prices = self.setting.prices;
        self.order.resolve(&key, |waiting| {
            let reading = Reading::nothing();
            let mut row = waiting.exchange.end(&waiting.end, Some(reading), prices, waiting.ended_ns);
            row.reason = Some(format!("background work; its result is billed by entry {by}"));
            Replayed { index: waiting.index, row }
        });
        self.billed.insert(key);
    }
}

impl Subject<'_> {
    /// The exchange of an entry, or of a turn that began `at`.
    pub(super) fn open(&self, billing: Billing, at: Timestamp) -> Exchange {
        let mut exchange = Exchange::new(Opening {
            account: AccountPath::of_agent(AGENT).expect("it is a name"),
            process: Process::default(),
            provider: self.party.provider.clone(),
            price_provider: self.party.price_provider.to_owned(),
            endpoint: self.call.endpoint.name,
            billing,
            category: self.party.category,
            host: self.recorded.host.clone(),
            method: self.recorded.method.clone(),
            path: self.recorded.path().to_owned(),
            at,
            monotonic_ns: 0,
        });
        exchange.plan(self.on_plan());
        exchange
    }

    /// Whether a subscription pays for it.
    fn on_plan(&self) -> bool {
        self.party.is_on_plan(self.recorded.path(), &self.recorded.request.headers)
    }

    /// What the request says; where it says nothing, what bounds any request.
    fn facts(&self) -> RequestFacts {
        let body = body::whole(&self.recorded.request);
        let unknown = || RequestFacts {
            stream: self.recorded.answer.content_type.starts_with("text/event-stream"),
            input_unbounded: true,
            hidden_output: true,
            choices: 1,
            ..RequestFacts::default()
        };
        match self.call.endpoint.billing {
            Billing::Metered | Billing::Unknown => match self.dialect.request(&self.call, &body) {
                // What a file has in it is unknown, whatever the form says beside it.
                Ok(facts) if !self.recorded.request.lacks_file => facts,
                Ok(_) | Err(_) => unknown(),
            },
            Billing::Free | Billing::Result | Billing::Socket => unknown(),
        }
    }

    /// What the answer says, where there is one that can be billed.
    fn reading(&self, facts: &RequestFacts, end: BodyEnd) -> Option<Reading> {
        let recorded = self.recorded;
        if !matches!(self.call.endpoint.billing, Billing::Metered | Billing::Result) || recorded.status == 0 {
            return None;
        }
        let header = |name: &str| recorded.answer.header(name).map(str::to_owned);
        let head = AnswerHead { status: recorded.status, content_type: &recorded.answer.content_type, header: &header };
        let mut reader = self.dialect.reader(&self.call, facts, head);
        let end = match body::feed(&recorded.answer, reader.as_mut()) {
            BodyEnd::Complete => end,
            BodyEnd::Cut => BodyEnd::Cut,
        };
        Some(reader.finish(end))
    }

    /// How the exchange is billed, and why if it costs nothing. On a host that nobody listed a call is one of a paid
    /// API only if it has its shape: a model, or tokens.
    fn billing(&self, facts: &RequestFacts, reading: Option<&Reading>) -> (Billing, Option<&'static str>) {
        let Endpoint { name, billing } = self.call.endpoint;
        let has_shape =
            facts.model.is_some() || reading.is_some_and(|r| r.model.is_some() || r.usage != Usage::default());
        match billing {
            Billing::Free if self.party.is_listed() || name != "other" => (billing, None),
            Billing::Free => (billing, Some("not a metered API")),
            Billing::Unknown | Billing::Metered | Billing::Result | Billing::Socket if self.party.is_listed() => {
                (billing, None)
            }
            Billing::Metered | Billing::Result if has_shape => (billing, None),
            Billing::Unknown | Billing::Metered | Billing::Result | Billing::Socket => {
                (Billing::Free, Some(NOT_METERED))
            }
        }
    }
}

fn end_of(recorded: &Recorded) -> End {
    match (&recorded.cut, recorded.status) {
        (Some(why), 1..) => End::ProviderCut(why.clone()),
        (None, 1..) => End::Complete,
        (why, 0) => {
            let why = why.as_deref().unwrap_or("the recording holds no answer");
            End::ProviderCut(format!("the request failed: {why}"))
        }
    }
}

fn is_nothing(row: &Row) -> bool {
    row.usage_quality == Quality::Exact && row.usage == Usage::default() && row.detail.is_empty()
}

/// Why an exchange of a paid call costs nothing.
fn why_nothing(recorded: &Recorded) -> &'static str {
    match recorded.status {
        0 => "the request never left",
        300..=399 => "a redirect",
        _ => "the answer says that nothing was used",
    }
}

/// Why what an exchange used is not known exactly.
fn why_not_exact(subject: &Subject<'_>, billing: Billing) -> &'static str {
    let recorded = subject.recorded;
    match billing {
        Billing::Unknown => "a call that this version does not know; charged at its bound",
        Billing::Metered
            if recorded.request.lacks_file || (recorded.method == "POST" && recorded.request.body.is_empty()) =>
        {
            "the recording does not hold the request's body; record it with contents"
        }
        Billing::Metered | Billing::Result | Billing::Socket | Billing::Free => "the answer does not state its usage",
    }
}

fn why_repeat(result: Option<&ResultRef>) -> &'static str {
    match result.map(|r| r.standing) {
        Some(Standing::Pending) => "background work; its result is billed when it is read",
        Some(Standing::Final | Standing::Repeat) | None => "a result that was billed already",
    }
}

fn request_id(answer: &Message) -> Option<String> {
    REQUEST_IDS.iter().find_map(|name| answer.header(name)).map(str::to_owned)
}

fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

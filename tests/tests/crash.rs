//! The sidecar killed at every step of an exchange: nothing passes unmetered, nothing spent is forgotten or charged twice.
//!
//! Each step is held by a fact: a request of which half has come, a provider that thinks, a ledger that somebody else has
//! locked. The kernel's maps and the ledger are then as a death at that moment leaves them.

use std::{fmt::Write, time::Duration};

use meter_common::AccountRef;
use meter_tests::harness::{
    Account, Lab, LabOptions, LedgerFile, Maps, Row, Shell, assert_rows_match,
    chat::{Chat, status},
    cost, pico, wait_for,
};

const AGENT: &str = "crash";
const PLENTY: &str = "1";
const LEVELS: [&str; 3] = ["strict", "full", "relaxed"];
/// How long a fact that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any test: the provider does not answer before the end.
const NEVER_MS: u64 = 600_000;
/// Long enough to lock the ledger while the provider thinks.
const THINKS_MS: u64 = 1_500;

/// A lab with one exchange behind it, so that upstream a connection is open and every total is above 0.
struct Scene {
    shell: Shell,
    maps: Maps,
    ledger: LedgerFile,
    /// The agent's slot; its totals have its task's in them.
    agent: AccountRef,
    before: Account,
    // Dropped last: it stops the daemon and detaches everything.
    lab: Lab,
}

impl Scene {
    fn new(durability: &str) -> Self {
        let mut lab = Lab::start(LabOptions::default().budget(AGENT, PLENTY).durability(durability));
        lab.daemon.expect_log("the ledger is not writable");
        lab.daemon.expect_log("unresolved");
        let mut shell = Shell::open(&lab.agent(AGENT));
        assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
        shell.run("work=$(mktemp -d); trap 'rm -r $work' EXIT").expect_code(0);
        let maps = Maps::open();
        let agent = maps.slot(AGENT);
        // What the ledger shows is durable.
        assert_eq!(lab.daemon.ledger(AGENT).len(), 1);
        let before = lab.daemon.account(AGENT);
        let ledger = LedgerFile::open(&lab.daemon);
        Self { shell, maps, ledger, agent, before, lab }
    }

    /// Begins a request in the background; what it prints goes to a file.
    fn begin(&mut self, chat: &Chat) {
        self.shell.send(&format!("({}) > $work/out 2>&1 &", chat.curl()));
    }

    /// What the request has printed so far.
    fn printed(&mut self) -> String {
        self.shell.run("cat $work/out").stdout
    }

    fn wait_for_held(&self) -> i128 {
        let held =
            wait_for("a hold in the map", PATIENCE, || Some(self.maps.outstanding(self.agent)).filter(|h| *h > 0));
        held.into()
    }

    fn wait_for_durable_hold(&self) {
        wait_for("the hold's row", PATIENCE, || (self.ledger.open_holds() == 1).then_some(()));
    }

    /// Kills the sidecar and proves that the kernel lets nothing pass meanwhile.
    fn kill(&mut self) {
        self.lab.daemon.kill();
        let ended = self.shell.run("wait");
        assert!(ended.took < Duration::from_secs(3), "the agent hung for {:?}", ended.took);
        let (connections, spent) = (self.lab.simulator.connections().len(), self.maps.balance(self.agent).spent);
        for _ in 0..20 {
            let printed = self.shell.run("(exec 9<>/dev/tcp/api.openai.com/443)");
            assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
        }
        assert_eq!(self.lab.simulator.connections().len(), connections, "a connection passed unmetered");
        assert_eq!(self.maps.balance(self.agent).spent, spent);
    }

    /// Starts the sidecar again, and checks what every start must keep; returns what was charged since the first exchange.
    fn recover(&mut self) -> Charged {
        self.lab.daemon.launch();
        let after = self.lab.daemon.account(AGENT);
        let rows = self.lab.daemon.ledger(AGENT);
        assert!(after.spent() >= self.before.spent(), "spent fell: {after:#?}");
        assert_eq!(pico(&after.held_usd), 0, "a hold survived: {after:#?}");
        assert_eq!(rows.iter().map(Row::cost).sum::<i128>(), after.spent(), "rows and status differ: {rows:#?}");
        let record = self.maps.balance(self.maps.slot(AGENT));
        assert_eq!(i128::from(record.spent), after.spent(), "the kernel has another word");
        assert_eq!(record.hold_granted, record.hold_ended);
        // The agent itself was never restarted.
        assert_eq!(status(&self.shell.run(&Chat::ordinary().curl()).stdout), 200);
        let lost = rows.iter().filter(|row| row.outcome == "unresolved").cloned().collect();
        Charged { amount: after.spent() - self.before.spent(), rows: rows.len() - 1, lost }
    }
}

/// What a restart charged for the exchange that was under way.
struct Charged {
    amount: i128,
    rows: usize,
    lost: Vec<Row>,
}

/// What the exchange that is sent in these tests is billed with.
fn billed(scene: &Scene) -> i128 {
    let exchanges = scene.lab.simulator.exchanges();
    let last = &exchanges[1];
    cost(&last.model, &last.billed)
}

#[test]
fn killed_before_the_hold_nothing_is_charged_and_nothing_was_sent() {
    let mut scene = Scene::new("full");
    // Half of a body: what it can cost is not known before the rest of it.
    let body = Chat::ordinary().body();
    let mut script = String::new();
    let _ = write!(
        script,
        "cat > $work/half.py <<'SCRIPT'\n\
         import http.client\n\
         body = r'{body}'.encode()\n\
         c = http.client.HTTPSConnection('api.openai.com', timeout=20)\n\
         c.putrequest('POST', '/v1/chat/completions')\n\
         c.putheader('content-type', 'application/json'); c.putheader('content-length', str(len(body)))\n\
         c.endheaders(); c.send(body[:len(body) // 2]); print('half', flush=True)\n\
         try: print('answer', c.getresponse().status, flush=True)\n\
         except OSError as error: print('broken', flush=True)\n\
         SCRIPT\n\
         python3 $work/half.py > $work/out 2>&1 & while ! grep -q half $work/out; do sleep 0.01; done"
    );
    scene.shell.run(&script).expect_code(0);
    assert_eq!(scene.maps.outstanding(scene.agent), 0);
    scene.kill();
    assert_eq!(scene.printed(), "half\nbroken\n");
    let charged = scene.recover();
    assert_eq!((charged.amount, charged.rows), (0, 0));
    // The one before and the one after.
    assert_eq!(scene.lab.simulator.exchanges().len(), 2);
}

/// At the strict level nothing has left, at the full one the provider has answered and the agent has not seen it, and at
/// the relaxed one the agent has the answer and its charge is in the map.
fn killed_before_the_holds_row(level: &str) {
    let mut scene = Scene::new(level);
    scene.ledger.lock();
    scene.begin(&Chat::ordinary());
    let answered = || (scene.lab.simulator.exchanges().len() == 2).then_some(());
    let held = match level {
        "strict" => scene.wait_for_held(),
        "full" => {
            wait_for("the provider's answer", PATIENCE, answered);
            scene.wait_for_held()
        }
        _ => {
            wait_for("the provider's answer", PATIENCE, answered);
            wait_for("the settlement in the map", PATIENCE, || {
                (i128::from(scene.maps.balance(scene.agent).spent) > scene.before.spent()).then_some(())
            });
            0
        }
    };
    assert_eq!((scene.ledger.open_holds(), scene.ledger.rows()), (0, 1), "it is durable already");
    scene.kill();
    scene.ledger.unlock();
    let (forwarded, released) = match level {
        "strict" => (1, false),
        "full" => (2, false),
        _ => (2, true),
    };
    assert_eq!(scene.lab.simulator.exchanges().len(), forwarded, "forwarded");
    assert_eq!(scene.printed().contains("chat.completion"), released, "released");
    let expected = if released { billed(&scene) } else { held };
    let charged = scene.recover();
    assert_eq!((charged.amount, charged.rows), (expected, 1));
    assert!(charged.lost[0].reason.as_deref().unwrap().contains("kernel's map knew"), "{:#?}", charged.lost);
}

#[test]
fn killed_before_the_holds_row_nothing_was_forwarded_at_the_strict_level() {
    killed_before_the_holds_row("strict");
}

#[test]
fn killed_before_the_holds_row_nothing_was_released_at_the_full_level() {
    killed_before_the_holds_row("full");
}

#[test]
fn killed_before_the_holds_row_the_map_has_the_charge_at_the_relaxed_level() {
    killed_before_the_holds_row("relaxed");
}

#[test]
fn killed_after_the_hold_it_is_charged_in_full_once() {
    for level in LEVELS {
        let mut scene = Scene::new(level);
        scene.begin(&Chat::ordinary().with(|directive| directive.ttfb_ms = NEVER_MS));
        let held = scene.wait_for_held();
        scene.wait_for_durable_hold();
        scene.kill();
        let charged = scene.recover();
        assert_eq!((charged.amount, charged.rows, charged.lost.len()), (held, 1, 1), "{level}");
    }
}

#[test]
fn killed_during_a_stream_it_neither_leaks_nor_forgets() {
    for level in LEVELS {
        let mut scene = Scene::new(level);
        scene.begin(&Chat::ordinary().stream().options("-N").with(|directive| {
            directive.chunks = Some(1000);
            directive.delay_ms = 50;
        }));
        scene.shell.run("while ! grep -q data: $work/out; do sleep 0.01; done");
        let held = scene.wait_for_held();
        scene.wait_for_durable_hold();
        scene.kill();
        // The stream ends at once, and as a broken one.
        let printed = scene.printed();
        assert!(!printed.contains("[DONE]") && printed.contains("curl:"), "{level}: {printed}");
        let charged = scene.recover();
        assert_eq!((charged.amount, charged.rows, charged.lost.len()), (held, 1, 1), "{level}");
    }
}

#[test]
fn killed_before_settling_the_hold_covers_what_the_provider_billed() {
    let mut scene = Scene::new("full");
    let mut chat = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(1);
        directive.delay_ms = 1_000;
    });
    // The agent asks for it itself, and so sees it.
    chat.usage = true;
    scene.begin(&chat);
    // Everything is billed and said; only the end is missing.
    scene.shell.run("while ! grep -q '\"total_tokens\"' $work/out; do sleep 0.01; done");
    let held = scene.wait_for_held();
    scene.kill();
    assert!(!scene.printed().contains("[DONE]"));
    let charged = scene.recover();
    assert_eq!((charged.amount, charged.rows, charged.lost.len()), (held, 1, 1));
    wait_for("the provider's log", PATIENCE, || (scene.lab.simulator.exchanges().len() == 3).then_some(()));
    assert!(charged.amount >= billed(&scene), "less than the provider billed");
}

/// Kills when the settlement is in the map and not in the ledger.
fn killed_before_the_settlements_row(chat: &Chat) -> (Scene, i128) {
    let mut scene = Scene::new("full");
    scene.begin(chat);
    let held = scene.wait_for_held();
    scene.wait_for_durable_hold();
    scene.ledger.lock();
    wait_for("the settlement in the map", PATIENCE, || (scene.maps.outstanding(scene.agent) == 0).then_some(()));
    assert_eq!((scene.ledger.open_holds(), scene.ledger.rows()), (1, 1), "it is durable already");
    scene.kill();
    scene.ledger.unlock();
    assert_eq!(status(&scene.printed()), 200);
    (scene, held)
}

#[test]
fn killed_before_the_settlements_row_the_larger_of_map_and_ledger_counts() {
    let (mut scene, held) =
        killed_before_the_settlements_row(&Chat::ordinary().with(|directive| directive.ttfb_ms = THINKS_MS));
    let settled = i128::from(scene.maps.balance(scene.agent).spent) - scene.before.spent();
    assert_eq!(settled, billed(&scene));
    let charged = scene.recover();
    assert_eq!((charged.amount, charged.rows, charged.lost.len()), (held, 1, 1), "the ledger's open hold is larger");
    assert!(held >= settled);
}

#[test]
fn killed_before_the_row_of_an_overrun_all_of_it_is_charged() {
    let mut chat = Chat::overrun(300_000);
    chat.directive.ttfb_ms = THINKS_MS;
    let (mut scene, held) = killed_before_the_settlements_row(&chat);
    let settled = billed(&scene);
    assert!(settled > held, "{settled} is no overrun of {held}");
    let charged = scene.recover();
    assert_eq!(charged.amount, settled);
    // The hold, and what only the map knew of.
    assert_eq!((charged.rows, charged.lost.len()), (2, 2));
}

#[test]
fn killed_after_settling_the_exchange_is_charged_exactly_and_once() {
    for level in LEVELS {
        let mut scene = Scene::new(level);
        scene.begin(&Chat::ordinary());
        wait_for("the settlement's row", PATIENCE, || (scene.ledger.rows() == 2).then_some(()));
        scene.kill();
        assert_eq!(status(&scene.printed()), 200, "{level}");
        let charged = scene.recover();
        assert_eq!((charged.amount, charged.rows, charged.lost.len()), (billed(&scene), 1, 0), "{level}");
        assert_rows_match(&scene.lab.daemon.ledger(AGENT), &scene.lab.simulator.exchanges());
    }
}

#[test]
fn a_map_behind_the_ledger_takes_neither_spend_nor_a_funding_back() {
    let mut scene = Scene::new("full");
    let accounts = [scene.agent, AccountRef { slot: meter_common::HOST_SLOT, generation: 1 }];
    let old = accounts.map(|account| scene.maps.balance(account));
    assert_eq!(status(&scene.shell.run(&Chat::ordinary().curl()).stdout), 200);
    scene.lab.daemon.call("fund", &[AGENT, "0.5"]);
    let before = scene.lab.daemon.account(AGENT);
    scene.kill();
    for (account, record) in accounts.into_iter().zip(&old) {
        scene.maps.put_back(account, record);
    }
    let charged = scene.recover();
    assert_eq!((charged.amount, charged.rows, charged.lost.len()), (before.spent() - scene.before.spent(), 1, 0));
    let after = scene.lab.daemon.account(AGENT);
    let second = before.spent() - scene.before.spent();
    // One more of the same was sent since.
    assert_eq!(pico(after.remaining_usd.as_deref().unwrap()), pico(before.remaining_usd.as_deref().unwrap()) - second);
    let remaining = scene.maps.balance(scene.maps.slot(AGENT)).remaining;
    assert_eq!(i128::from(remaining), pico(after.remaining_usd.as_deref().unwrap()));
}

#[test]
fn killed_again_and_again_spent_never_falls_and_no_exchange_is_charged_twice() {
    const ROUNDS: usize = 4;
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    lab.daemon.expect_log("unresolved");
    let mut shell = Shell::open(&lab.agent(AGENT));
    let mut spent = 0;
    let crowd: Vec<String> = [0, 50, 100, 150, 200, 250]
        .into_iter()
        .flat_map(|pause| {
            let plain = Chat::ordinary().with(|directive| directive.ttfb_ms = pause);
            let stream = Chat::ordinary().stream().with(|directive| directive.delay_ms = pause);
            [format!("({}) &", plain.curl()), format!("({}) &", stream.curl())]
        })
        .collect();
    for _ in 0..ROUNDS {
        shell.run(&format!("{{ {} }} > /dev/null 2>&1", crowd.join(" ")));
        wait_for("an answer", PATIENCE, || (lab.daemon.account(AGENT).spent() > spent).then_some(()));
        let before = lab.daemon.account(AGENT).spent();
        lab.daemon.kill();
        lab.daemon.launch();
        let after = lab.daemon.account(AGENT).spent();
        assert!(after >= before, "{after} after {before}");
        spent = after;
        shell.run("wait");
    }
    assert_charged_once(&lab, ROUNDS * crowd.len());
}

/// Every exchange that the provider ended has one row with its cost; all others that were sent have one unresolved row at
/// most, and the sum of all is what everybody says was spent.
fn assert_charged_once(lab: &Lab, sent: usize) {
    let (rows, mut exchanges) = (lab.daemon.ledger(AGENT), lab.simulator.exchanges());
    // A request of which only a part came is answered with an error, and billed with nothing.
    exchanges.retain(|exchange| exchange.status == 200);
    let account = lab.daemon.account(AGENT);
    let (named, unnamed): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.request_id.is_some());
    let mut ids: Vec<_> = named.iter().filter_map(|row| row.request_id.as_deref()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "an exchange was charged twice: {ids:?}");
    for row in &named {
        let exchange = exchanges.iter().find(|exchange| Some(&exchange.request_id) == row.request_id.as_ref());
        if let Some(exchange) = exchange.filter(|_| row.usage_quality == "exact") {
            assert_eq!(row.cost(), cost(&exchange.model, &exchange.billed), "{row:#?}");
        }
    }
    let of_the_map = |row: &&&Row| row.reason.as_deref().is_some_and(|reason| reason.contains("kernel's map knew"));
    let of_holds = unnamed.iter().filter(|row| !of_the_map(row)).count();
    assert!(named.len() + of_holds <= sent, "{} and {of_holds} rows for {sent} requests", named.len());
    let billed: i128 = exchanges.iter().map(|exchange| cost(&exchange.model, &exchange.billed)).sum();
    assert!(account.spent() >= billed, "the provider billed more than was charged");
    assert_eq!(rows.iter().map(Row::cost).sum::<i128>(), account.spent());
    let maps = Maps::open();
    assert_eq!(i128::from(maps.balance(maps.slot(AGENT)).spent), account.spent());
    assert_eq!((maps.outstanding(maps.slot(AGENT)), pico(&account.held_usd)), (0, 0));
}

//! Many requests at once against little money: admission never overshoots, and every dollar is spent or still there.

use meter_tests::{
    client::{
        leg::Post,
        load::{Load, Tally},
    },
    harness::{
        Books, Client, Lab, Shell, assert_rows_match, binary,
        chat::{Chat, status},
        cost, pico,
    },
};

/// What one [`Chat::ordinary`] costs; held are about $0.005.
const EACH: i128 = 2_750_000_000;
/// Requests at once, and how many of them there is money for.
const CROWD: usize = 1_000;
const AFFORDED: i128 = 50;
/// Fits [`AFFORDED`] of them.
const BUDGET: &str = "0.1375";

/// A thousand at once over so many connections.
fn crowd(chat: &Chat, http2: bool, connections: usize) -> Load {
    Load { http2, connections, requests: CROWD, posts: vec![Post::chat(chat.body())], seconds: None }
}

fn ordinary() -> Chat {
    Chat::ordinary().with(|directive| directive.ttfb_ms = 20)
}

/// Nobody hung, nobody was told anything but yes or no, and the books of a budget that was fought over agree with what
/// the provider billed.
#[track_caller]
fn assert_fought_over(lab: &Lab, tallies: &[Tally], sent: usize) -> Books {
    for tally in tallies {
        assert!(tally.statuses.keys().all(|status| [200, 402].contains(status)), "{tally:#?}");
        // A connection is ended when its account stops.
        assert!(
            tally.failures.keys().chain(tally.unconnected.keys()).all(|why| !why.contains("elapsed")),
            "{tally:#?}"
        );
    }
    let answered: usize = tallies.iter().map(|tally| tally.of(200)).sum();
    assert!(tallies.iter().map(Tally::sent).sum::<usize>() <= sent, "{tallies:#?}");
    let books = Books::check(&lab.daemon, &[]);
    let exchanges = lab.simulator.exchanges();
    let billed: i128 = exchanges.iter().map(|exchange| cost(&exchange.model, &exchange.billed)).sum();
    assert_eq!(books.spent("host"), billed, "what the provider billed");
    assert_eq!(exchanges.len(), answered, "an answer that was paid for did not arrive");
    assert_rows_match(&books.rows, &exchanges);
    books
}

/// What others held is there again: requests one after the other spend all but less than one's hold.
fn spend_the_rest(lab: &Lab, shell: &mut Shell, account: &str) {
    for _ in 0..AFFORDED {
        let printed = shell.run(&Chat::ordinary().curl());
        if status(&printed.stdout) != 200 {
            break;
        }
    }
    let books = Books::check(&lab.daemon, &[]);
    let left = pico(BUDGET) - books.spent(account);
    assert!((0..3 * EACH).contains(&left), "{left} of {BUDGET} could not be spent");
}

fn thousand_for_fifty(chat: &Chat, http2: bool, connections: usize) {
    let lab = Lab::with_budget("crowd", BUDGET);
    let mut shell = Shell::open(&lab.agent("crowd"));
    let tally = lab.agent("crowd").load(crowd(chat, http2, connections)).wait();
    let books = assert_fought_over(&lab, std::slice::from_ref(&tally), CROWD);
    assert!(tally.of(200) >= 10, "{tally:#?}");
    assert!(books.spent("crowd") <= AFFORDED * EACH);
    eprintln!("{} answered, {} refused in {} ms", tally.of(200), tally.of(402), tally.elapsed_ms);
    spend_the_rest(&lab, &mut shell, "crowd");
}

#[test]
fn a_thousand_at_once_over_one_connection_never_overspend_a_budget_for_fifty() {
    thousand_for_fifty(&ordinary(), true, 1);
}

#[test]
fn a_thousand_streams_at_once_over_one_connection_never_overspend_a_budget_for_fifty() {
    thousand_for_fifty(&ordinary().stream(), true, 1);
}

#[test]
fn a_thousand_at_once_over_200_connections_never_overspend_a_budget_for_fifty() {
    thousand_for_fifty(&ordinary(), true, 200);
}

#[test]
fn a_thousand_streams_at_once_over_200_connections_never_overspend_a_budget_for_fifty() {
    thousand_for_fifty(&ordinary().stream(), true, 200);
}

#[test]
fn a_thousand_over_200_connections_of_http_1_never_overspend_a_budget_for_fifty() {
    thousand_for_fifty(&ordinary(), false, 200);
}

#[test]
fn nested_accounts_that_are_new_never_overspend_themselves_or_what_is_above_them() {
    // Eight tasks that nobody has seen before, each with money for ten, under an agent with money for fifty.
    const TASKS: usize = 8;
    const OF_A_TASK: &str = "0.0275";
    let lab = Lab::with_budget("crowd", BUDGET);
    let mut shell = Shell::open(&lab.agent("crowd"));
    let names: Vec<String> = (0..TASKS).map(|number| format!("task-{number}")).collect();
    let start = |name: &String| {
        let chat = if name.ends_with(['1', '3', '5', '7']) { ordinary().stream() } else { ordinary() };
        let load = Load { requests: CROWD / TASKS, ..crowd(&chat, name.ends_with(['0', '1', '2', '3']), 25) };
        lab.agent("crowd").task(name).budget(OF_A_TASK).load(load)
    };
    let clients: Vec<Client<Tally>> = names.iter().map(start).collect();
    let tallies: Vec<Tally> = clients.into_iter().map(Client::wait).collect();
    let books = assert_fought_over(&lab, &tallies, CROWD);
    let mut sum = 0;
    for name in &names {
        let spent = books.spent(&format!("crowd/{name}"));
        assert!(spent <= pico(OF_A_TASK), "{name}: {spent}");
        sum += spent;
    }
    assert_eq!(sum, books.spent("crowd"));
    assert!((10 * EACH..=AFFORDED * EACH).contains(&sum), "{sum}");
    spend_the_rest(&lab, &mut shell, "crowd");
}

#[test]
fn the_tightest_limit_of_a_path_as_deep_as_it_can_be_holds_for_all_of_it() {
    // The host, the agent and six tasks, one below the other; the fourth of them has money for ten.
    const TIGHT: &str = "0.0275";
    let lab = Lab::with_budget("deep", BUDGET);
    let meter = |task: usize, budget: &str| -> Vec<String> {
        let (program, config) = (binary("meter").display().to_string(), lab.daemon.config_file().display().to_string());
        let (task, agent) = (format!("t{task}"), "deep");
        let words = [&program, "run", "--config", &config, "--agent", agent, "--task", &task, "--budget", budget, "--"];
        words.map(str::to_owned).to_vec()
    };
    let below: Vec<String> = (2..=6).flat_map(|task| meter(task, if task == 4 { TIGHT } else { BUDGET })).collect();
    let tally = lab.agent("deep").task("t1").load_by(&below, crowd(&ordinary(), true, 20)).wait();
    let books = assert_fought_over(&lab, std::slice::from_ref(&tally), CROWD);
    let spent = books.spent("host");
    assert!((EACH..=pico(TIGHT)).contains(&spent), "{spent}");
    let deepest = (1..=6).fold("deep".to_owned(), |path, task| {
        assert_eq!(books.spent(&path), spent, "{path}");
        format!("{path}/t{task}")
    });
    assert_eq!(books.spent(&deepest), spent);
    assert_eq!(tally.of(200) as i128 * EACH, spent);
}

#[test]
fn ten_tasks_of_one_dollar_under_an_agent_of_five_spend_five_together() {
    // Each request costs $0.0825 and is held for little more.
    let lab = Lab::with_budget("five", "5");
    let mut shell = Shell::open(&lab.agent("five"));
    let chat = Chat::ordinary().ceiling(Some(8_000)).with(|directive| {
        directive.input = Some(1_000);
        directive.output = Some(8_000);
        directive.size = Some(100);
        directive.ttfb_ms = 20;
    });
    let post = || vec![Post::chat(chat.body())];
    let start = |number: usize| {
        let load = Load { http2: true, connections: 2, requests: 30, posts: post(), seconds: None };
        lab.agent("five").task(&format!("task-{number}")).budget("1").load(load)
    };
    let clients: Vec<Client<Tally>> = (0..10).map(start).collect();
    let tallies: Vec<Tally> = clients.into_iter().map(Client::wait).collect();
    let books = assert_fought_over(&lab, &tallies, 300);
    let sum: i128 = (0..10)
        .map(|number| {
            let spent = books.spent(&format!("five/task-{number}"));
            assert!(spent <= pico("1"), "task {number}: {spent}");
            spent
        })
        .sum();
    assert_eq!(sum, books.spent("five"));
    assert!(sum <= pico("5"));
    // Ten times a dollar are there for the tasks, and five for the agent: it is the agent's that end.
    while status(&shell.run(&chat.curl()).stdout) == 200 {}
    let books = Books::check(&lab.daemon, &[]);
    let left = pico("5") - books.spent("five");
    assert!((0..pico("0.1")).contains(&left), "{left} left");
}

#[test]
fn a_huge_request_under_way_does_not_block_a_small_one_that_fits() {
    let lab = Lab::with_budget("huge", "1");
    let mut shell = Shell::open(&lab.agent("huge"));
    // Held for half of the budget, and slow.
    let huge = Chat::ordinary().ceiling(Some(50_000)).with(|directive| directive.ttfb_ms = 5_000);
    // One that states no ceiling is held for as much as it may become.
    let unstated = Chat::ordinary().ceiling(None).with(|directive| directive.ttfb_ms = 5_000);
    let under_way = lab.agent("huge").load(Load { requests: 1, ..crowd(&huge, true, 1) });
    meter_tests::harness::wait_for("the huge hold", std::time::Duration::from_secs(10), || {
        (pico(&lab.daemon.account("huge").held_usd) >= pico("0.5")).then_some(())
    });
    let without = lab.agent("huge").load(Load { requests: 1, ..crowd(&unstated, true, 1) });
    meter_tests::harness::wait_for("the other hold", std::time::Duration::from_secs(10), || {
        (pico(&lab.daemon.account("huge").held_usd) > pico("0.6")).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    }
    assert!(pico(&lab.daemon.account("huge").held_usd) > pico("0.6"), "the huge one ended before the small ones");
    assert_eq!((under_way.wait().of(200), without.wait().of(200)), (1, 1));
    assert_rows_match(&Books::check(&lab.daemon, &[]).rows, &lab.simulator.exchanges());
}

#[test]
fn one_dear_outlier_stops_nobody() {
    let lab = Lab::with_budget("outlier", "0.05");
    let mut shell = Shell::open(&lab.agent("outlier"));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    let dear = Chat::ordinary().ceiling(Some(16_000)).curl();
    assert_eq!(status(&shell.run(&dear).stdout), 402);
    assert_eq!(lab.daemon.account("outlier").state, "open");
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    assert_rows_match(&lab.daemon.ledger("outlier"), &lab.simulator.exchanges());
}

//! Money is never lost quietly: what was charged past a hold is posted, a price is that of the request's start, and no
//! amount is too small to count.

use std::time::Duration;

use meter_tests::{
    client::{leg::Post, load::Load},
    harness::{
        Books, Lab, LabOptions, Shell,
        chat::{Chat, status},
        cost, pico, wait_for, wait_for_state,
    },
};

/// A model that nobody else sells.
const MODEL: &str = "house-model-1";

/// A LiteLLM list that sells it for so much a token, in and out.
fn list(input: &str, output: &str) -> String {
    format!(
        "{{\"{MODEL}\": {{\"litellm_provider\": \"openai\", \"mode\": \"chat\", \"input_cost_per_token\": {input}, \
         \"output_cost_per_token\": {output}}}}}"
    )
}

fn import(lab: &Lab, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    lab.daemon.call("prices", &["import", &file.path().display().to_string()]);
}

fn house() -> Chat {
    Chat { model: MODEL.to_owned(), ..Chat::ordinary() }
}

#[test]
fn a_charge_beyond_the_hold_is_posted_in_full_named_as_an_overrun_and_stops_the_account() {
    let lab = Lab::with_budget("over", "1");
    let mut shell = Shell::open(&lab.agent("over"));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    // $2.502 for a request that was held for a fraction of a cent.
    assert_eq!(status(&shell.run(&Chat::overrun(1_000_000).curl()).stdout), 200);
    wait_for_state(&lab.daemon, "over", "stopped");
    let books = Books::check(&lab.daemon, &["over", &account_of(&lab)]);
    let exchanges = lab.simulator.exchanges();
    let billed: i128 = exchanges.iter().map(|exchange| cost(&exchange.model, &exchange.billed)).sum();
    assert_eq!(books.spent("over"), billed);
    assert!(billed > pico("1"), "the limit was to be passed");
    let rows = books.rows_of("over");
    assert_eq!(rows[1].cost(), cost(&exchanges[1].model, &exchanges[1].billed));
    assert!(pico(&rows[1].held_usd) < rows[1].cost(), "{rows:#?}");
    assert!(rows[1].reason.as_deref().is_some_and(|reason| reason.contains("overrun")), "{rows:#?}");
    assert!(rows[0].reason.as_deref().is_none_or(|reason| !reason.contains("overrun")), "{rows:#?}");
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    assert_eq!(lab.simulator.exchanges().len(), 2);
}

/// The task's account, whose limits are its agent's.
fn account_of(lab: &Lab) -> String {
    let accounts = lab.daemon.status().accounts;
    accounts.into_iter().map(|account| account.account).find(|name| name.contains('/')).expect("a task")
}

#[test]
fn an_overrun_of_a_task_is_posted_at_every_account_above_it() {
    let lab = Lab::with_budget("over", "10");
    let mut task = Shell::open(&lab.agent("over").task("small").budget("1"));
    assert_eq!(status(&task.run(&Chat::overrun(1_000_000).stream().curl()).stdout), 200);
    wait_for_state(&lab.daemon, "over/small", "stopped");
    let books = Books::check(&lab.daemon, &["over/small"]);
    assert_eq!(lab.daemon.account("over").state, "open");
    for account in ["over/small", "over", "host"] {
        assert_eq!(books.spent(account), pico("2.502"), "{account}");
    }
    assert!(books.rows[0].reason.as_deref().is_some_and(|reason| reason.contains("overrun")), "{:#?}", books.rows);
}

#[test]
fn a_price_that_changes_in_the_middle_of_a_stream_counts_from_the_next_request_on() {
    let lab = Lab::with_budget("prices", "1000");
    import(&lab, &list("0.000002", "0.000008"));
    let mut shell = Shell::open(&lab.agent("prices"));
    let slow = house().stream().with(|directive| (directive.chunks, directive.delay_ms) = (Some(10), 200));
    let under_way = lab.agent("prices").load(Load {
        http2: true,
        connections: 1,
        requests: 1,
        posts: vec![Post::chat(slow.body())],
        seconds: None,
    });
    wait_for("the hold", Duration::from_secs(10), || (pico(&lab.daemon.account("prices").held_usd) > 0).then_some(()));
    // A thousand times dearer, and then cheaper, while the stream runs.
    import(&lab, &list("0.002", "0.008"));
    assert_eq!(status(&shell.run(&house().curl()).stdout), 200);
    import(&lab, &list("0.000001", "0.000001"));
    assert_eq!(under_way.wait().of(200), 1);
    assert_eq!(status(&shell.run(&house().curl()).stdout), 200);
    let books = Books::check(&lab.daemon, &[]);
    let mut costs: Vec<(bool, &str)> = books.rows.iter().map(|row| (row.stream, row.cost_usd.as_str())).collect();
    costs.sort_unstable();
    // 300 tokens in and 200 out each.
    assert_eq!(costs, [(false, "0.0005"), (false, "2.2"), (true, "0.0022")]);
}

#[test]
fn a_stream_under_way_is_not_cut_by_a_price_that_came_after_its_start() {
    let lab = Lab::with_budget("pinned", "0.01");
    import(&lab, &list("0.000002", "0.000008"));
    let slow = house().stream().with(|directive| (directive.chunks, directive.delay_ms) = (Some(200), 10));
    let under_way = lab.agent("pinned").load(Load {
        http2: true,
        connections: 1,
        requests: 1,
        posts: vec![Post::chat(slow.body())],
        seconds: None,
    });
    wait_for("the hold", Duration::from_secs(10), || (pico(&lab.daemon.account("pinned").held_usd) > 0).then_some(()));
    // By this one the budget would be passed by the first words.
    import(&lab, &list("0.002", "0.008"));
    assert_eq!(under_way.wait().of(200), 1);
    let books = Books::check(&lab.daemon, &[]);
    let ends: Vec<(&str, &str)> = books.rows.iter().map(|row| (row.outcome.as_str(), row.cost_usd.as_str())).collect();
    assert_eq!(ends, [("complete", "0.0022")]);
}

#[test]
fn a_token_at_a_billionth_of_a_dollar_is_charged_and_a_thousand_requests_sum_up_exactly() {
    const REQUESTS: usize = 1_000;
    let mut options = LabOptions::default().budget("nano", "1");
    // $0.001 per million tokens in and out: a billionth per token.
    options.daemon.tables =
        format!("[[price]]\nmodel = \"{MODEL}\"\ninput_mtok = \"0.001\"\noutput_mtok = \"0.003\"\n");
    let lab = Lab::start(options);
    let one = Chat { words: Some(0), ..house() }.ceiling(Some(1)).with(|directive| {
        directive.input = Some(1);
        directive.output = Some(0);
        directive.size = Some(0);
    });
    let mut shell = Shell::open(&lab.agent("nano"));
    assert_eq!(status(&shell.run(&one.curl()).stdout), 200);
    assert_eq!(Books::check(&lab.daemon, &[]).rows[0].cost_usd, "0.000000001");
    // 7 in and 3 out: 16 billionths.
    let few = one.with(|directive| (directive.input, directive.output) = (Some(7), Some(3))).ceiling(Some(3));
    let tally = lab
        .agent("nano")
        .load(Load {
            http2: true,
            connections: 4,
            requests: REQUESTS,
            posts: vec![Post::chat(few.body())],
            seconds: None,
        })
        .wait();
    assert_eq!(tally.of(200), REQUESTS, "{tally:#?}");
    let books = Books::check(&lab.daemon, &[]);
    assert!(books.rows[1..].iter().all(|row| row.cost_usd == "0.000000016"), "{:#?}", books.rows[1]);
    assert_eq!(books.spent("nano"), 1_000 + 1_000 * 16_000);
    assert_eq!(books.spent("nano"), pico("0.000016001"));
}

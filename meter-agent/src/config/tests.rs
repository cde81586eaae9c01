//! What is written is what is meant: every key read, every mistake named with its place and its fix.

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    accounts::{
        Category, LimitKey, LimitRule, Window,
        policy::{AtLimit, Clamp, Degrade, Models, Policy, Reaction, Stages, Throttle, Wall, Watch},
    },
    clock::Timestamp,
    labels::LABELS_MAX,
    ledger::By,
    measure::Unit,
    money::Pico,
    usage::hosts::HostEntry,
};

const fn budget(pico_usd: i64) -> LimitRule {
    LimitRule::budget(Pico::new(pico_usd))
}

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("m.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn mistakes(text: &str) -> Vec<String> {
    let Err(ConfigError::Mistakes(all)) = Config::parse(text, Path::new("m.toml")) else {
        panic!("no mistakes: {text}")
    };
    all.0.iter().map(ToString::to_string).collect()
}

fn agent<'c>(config: &'c Config, path: &str) -> &'c Policy {
    &config.plan().agents.iter().find(|(other, _)| other.as_str() == path).unwrap().1
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
            data_dir = "/srv/meter"
            run_dir = "/run/m"
            upstream_ca_file = "/etc/ca.pem"
            durability = "strict"
            listen_ports = [901, 902, 903, 904]

            [[host]]
            name = "LLM.example.com"
            dialect = "openai"

            [agent.research]
            budget_usd = "0.50"
            [agent.nightly]
            budget_usd = 1.10
            [agent.free]
        "#;
    let config = config(text);
    assert_eq!(config.data_dir, Path::new("/srv/meter"));
    assert_eq!(config.socket(), Path::new("/run/m/meter.sock"));
    assert_eq!(config.durability, Durability::Strict);
    assert_eq!(config.listen_ports, [901, 902, 903, 904]);
    assert_eq!(config.hosts, [HostEntry::new("llm.example.com", "openai")]);
    let budgets: Vec<_> = config.plan().agents.iter().map(|(a, p)| (a.as_str(), &*p.limits)).collect();
    let (nightly, research) = ([budget(1_100_000_000_000)], [budget(500_000_000_000)]);
    assert_eq!(budgets, [("free", &[][..]), ("nightly", &nightly), ("research", &research)]);
}

#[test]
fn every_mistake_is_named_with_its_place_in_one_go() {
    let text = r#"data_dri = "/x"
data_dir = "var/lib"
durability = "ful"
listen_ports = [961, 8443, 961]
[[host]]
name = "a.example"
dialect = "opnai"
[[host]]
dialekt = "openai"
[agent.research]
budget_usd = "9000000.01"
[agent.host]
budget_usd = true
[agent."a b"]
bugdet_usd = 1
"#;
    let expected = [
        "m.toml:1:1: there is no key `data_dri`; did you mean `data_dir`?",
        "m.toml:2:12: `data_dir` is not an absolute path; write the directory's whole path, starting with `/`",
        "m.toml:3:14: `durability` can't be `ful`; did you mean `full`?",
        "m.toml:4:16: `listen_ports` has 3 entries; name exactly 4, like [961, 963, 967, 971]",
        "m.toml:4:22: port 8443 can't be used; choose one from 1 to 1023, which an agent can't bind first",
        "m.toml:4:28: port 961 is there twice; name 4 different ones",
        "m.toml:7:11: there is no dialect `opnai`; did you mean `openai`?",
        "m.toml:8:1: this `[[host]]` has no `dialect` and no `provider`; add one of them",
        "m.toml:8:1: this `[[host]]` has no `name`; add it",
        "m.toml:9:1: there is no key `dialekt` in `[[host]]`; did you mean `dialect`?",
        "m.toml:11:14: `budget_usd`: `9000000.01` is above the largest amount, $9000000",
        "m.toml:12:8: the host's own policy stands at the top of the file; move these keys there",
        "m.toml:13:14: `budget_usd` is not an amount of dollars; write it like \"0.50\"",
        "m.toml:14:8: `a b` is not a name; use 1 to 64 letters, digits, `-` and `_`",
        "m.toml:15:1: there is no key `bugdet_usd` in `[agent.a b]`; did you mean `budget_usd`?",
    ];
    let mut found = mistakes(text);
    found.sort_by_key(|m| m.split(':').nth(1).and_then(|l| l.parse::<u32>().ok()));
    let mut lines: Vec<&str> = found.iter().map(String::as_str).collect();
    lines.sort_unstable();
    let mut wanted = expected.to_vec();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}

#[test]
fn a_line_that_is_no_toml_has_one_mistake() {
    assert_eq!(
        mistakes("budget_usd = 0.5x\nwait = 3\n"),
        [
            "m.toml:1:17: invalid float, expected nothing; correct the TOML there",
            "m.toml:2:8: `wait` is not a length of time; write it in quotes and with its unit, like \"30s\"",
        ]
    );
}

#[test]
fn broken_toml_is_reported_beside_the_other_mistakes() {
    let found = mistakes("run_dir = \ndurability = \"none\"\n");
    assert!(found[0].starts_with("m.toml:1:"), "{found:?}");
    assert!(found.iter().any(|m| m.contains("`durability` can't be `none`")), "{found:?}");
}

#[test]
fn a_key_or_a_host_that_is_there_twice_is_a_mistake() {
    let found = mistakes("run_dir = \"/a\"\nrun_dir = \"/b\"\n");
    assert!(found[0].starts_with("m.toml:2:1: duplicate key"), "{found:?}");
    let host = "[[host]]\nname = \"a.example\"\ndialect = \"openai\"\n";
    let found = mistakes(&format!("{host}{host}"));
    assert_eq!(found, ["m.toml:5:8: the host `a.example` is there twice; keep one of the two"]);
}

#[test]
fn an_amount_keeps_every_decimal_of_its_text() {
    let config = config("[agent.a]\nbudget_usd = 0.123456789012\n");
    assert_eq!(agent(&config, "a").limits, [budget(123_456_789_012)]);
    for bad in ["1e3", "-1", "0.1234567890123", "inf", "0x10"] {
        assert_eq!(mistakes(&format!("[agent.a]\nbudget_usd = {bad}\n")).len(), 1, "{bad}");
    }
}

#[test]
fn the_two_directories_are_apart_and_a_socket_fits() {
    assert!(mistakes("data_dir = \"/a\"\nrun_dir = \"/a\"\n")[0].starts_with("m.toml:2:11: `run_dir` is the same"));
    assert!(mistakes(&format!("run_dir = \"/{}\"\n", "x".repeat(120)))[0].contains("too long"));
    assert!(mistakes("run_dir = \"/\"\n")[0].contains("root directory"));
}

#[test]
fn an_absent_default_is_fine_and_an_absent_named_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    assert!(matches!(Config::load(Some(&path)), Err(ConfigError::Absent(p)) if p == path));
    assert_eq!(Config::parse("", &path).unwrap(), Config { file: Some(path), ..Config::default() });
}

#[test]
fn a_file_that_is_not_text_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binary.toml");
    fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let error = Config::load(Some(&path)).unwrap_err();
    assert!(error.to_string().contains("binary.toml can't be read"), "{error}");
}

#[test]
fn every_key_of_a_policy_is_read_at_the_top_and_below_an_agent() {
    let keys = r#"
        budget_usd = "1.50"
        max_requests = 1000
        max_output_tokens = 4096
        max_cost_usd = 0.25
        models = { allow = ["gpt-5*", "claude-*"], deny = ["*-pro"] }
        until = "2027-01-01"
        enforce = false
        clamp = "always"
        min_output_tokens = 0
        wait = "1m30s"
        wall = "requests"
        refusal_status = 429
        stages = { warn = 60, throttle = 75, alerts = [50, 25] }
        throttle = "20/min"
        at_limit = "continue"
        expect = "10m"
        repeats = 5
        on_pace = "tell"
        on_repeat = "throttle"
        on_baseline = "stop"
        labels = { team = "search", cost-centre = "4711" }
    "#;
    let limits = r#"
        limit = [
            { usd = "5", window = "day" },
            { tokens = 2_000_000, window = "hour", category = "llm" },
            { requests = 0, window = "month", category = "x402" },
        ]
    "#;
    let key = |window, category, unit| LimitKey { window, category, unit };
    let expected = Policy {
        limits: vec![
            budget(1_500_000_000_000),
            LimitRule { key: key(Window::Total, Category::ANY, Unit::Requests), amount: 1_000 },
            LimitRule { key: key(Window::Day, Category::ANY, Unit::Usd), amount: 5 * Pico::USD },
            LimitRule { key: key(Window::Hour, Category::of("llm"), Unit::Tokens), amount: 2_000_000 },
            LimitRule { key: key(Window::Month, Category::of("x402"), Unit::Requests), amount: 0 },
        ],
        labels: [("team", "search"), ("cost-centre", "4711")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        until: Timestamp::parse("2027-01-01"),
        enforce: Some(false),
        clamp: Some(Clamp::Always),
        min_output_tokens: Some(0),
        wait: Some(Duration::from_secs(90)),
        max_output_tokens: Some(4_096),
        max_cost: Some(Pico::new(250_000_000_000)),
        models: Models { allow: vec!["gpt-5*".to_owned(), "claude-*".to_owned()], deny: vec!["*-pro".to_owned()] },
        wall: Some(Wall::Requests),
        stages: Some(Stages { warn: 60, throttle: 75, alerts: vec![25, 50] }),
        throttle: Some(Throttle::PerMinute(20)),
        at_limit: Some(AtLimit::Continue),
        refusal_status: Some(429),
        watch: Watch {
            expect: Some(Duration::from_mins(10)),
            on_pace: Some(Reaction::Tell),
            repeats: Some(5),
            on_repeat: Some(Reaction::Throttle),
            on_baseline: Some(Reaction::Stop),
        },
    };
    assert_eq!(config(&format!("{keys}{limits}")).plan().host, expected);
    assert_eq!(*agent(&config(&format!("[agent.a]\n{keys}{limits}")), "a"), expected);
    assert_eq!(*agent(&config(&format!("[agent.\"a/b\"]\n{keys}{limits}")), "a/b"), expected);
    assert_eq!(config("").plan(), &Plan::default());
}

#[test]
fn a_limit_is_a_table_of_its_own_too() {
    let config =
        config("[[limit]]\nusd = 9\n[[agent.a.limit]]\nrequests = 3\nwindow = \"task\"\n[[agent.a.limit]]\nusd = 1\n");
    assert_eq!(config.plan().host.limits, [budget(9 * Pico::USD)]);
    let of_tasks = LimitKey { window: Window::Task, category: Category::ANY, unit: Unit::Requests };
    assert_eq!(agent(&config, "a").limits, [LimitRule { key: of_tasks, amount: 3 }, budget(Pico::USD)]);
}

#[test]
fn a_category_of_ones_own_is_that_of_an_api() {
    let api = "[[api]]\nhost = \"a.example\"\ncategory = \"weather\"\nprice_usd = 1\n";
    let limit = "[[agent.a.limit]]\nusd = 1\ncategory = \"weather\"\n";
    let config = config(&format!("{api}{limit}"));
    assert_eq!(agent(&config, "a").limits[0].key.category, Category::named("weather"));
    assert_eq!(
        mistakes(&format!("{api}{}", limit.replace("weather", "wether"))),
        ["m.toml:7:12: nothing falls under the category `wether`; did you mean `weather`?"]
    );
}

#[test]
fn a_time_without_an_offset_is_by_the_clocks_of_the_zone() {
    for (until, expected) in [
        ("\"2026-07-01\"", "2026-06-30T22:00:00Z"),
        ("2026-07-01", "2026-06-30T22:00:00Z"),
        ("\"2026-07-01T12:00:00\"", "2026-07-01T10:00:00Z"),
        ("2026-07-01T12:00:00+05:00", "2026-07-01T07:00:00Z"),
        ("\"2026-07-01T12:00:00Z\"", "2026-07-01T12:00:00Z"),
    ] {
        let config = config(&format!("until = {until}\ntime_zone = \"Europe/Berlin\"\n"));
        assert_eq!(config.plan().host.until, Timestamp::parse(expected), "{until}");
        assert_eq!(config.plan().zone.iana_name(), Some("Europe/Berlin"));
    }
}

#[test]
fn what_takes_over_at_the_limit_keeps_the_order_of_the_file() {
    let config = config(
        "[agent.a]\nat_limit = \"degrade\"\n[agent.a.degrade]\nallowance_usd = \"0.10\"\n\
         models = { \"o3*\" = \"o4-mini\", \"gpt-5*\" = \"gpt-5-mini\", \"*\" = \"gpt-4o-mini\" }\n",
    );
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let models = vec![pair("o3*", "o4-mini"), pair("gpt-5*", "gpt-5-mini"), pair("*", "gpt-4o-mini")];
    let degrade = Degrade { models, allowance: Pico::new(Pico::USD / 10) };
    assert_eq!(agent(&config, "a").at_limit, Some(AtLimit::Degrade(Arc::new(degrade))));
}

#[test]
fn what_is_left_out_of_the_stages_is_as_above() {
    let config = config(
        "stages = { warn = 50, alerts = [10] }\n[agent.a]\nstages = { throttle = 95 }\n\
         [agent.\"a/b\"]\nstages = { warn = 94 }\n[agent.c]\n",
    );
    let stages = |warn, throttle| Some(Stages { warn, throttle, alerts: vec![10] });
    assert_eq!(config.plan().host.stages, stages(50, 90));
    assert_eq!(agent(&config, "a").stages, stages(50, 95));
    assert_eq!(agent(&config, "a/b").stages, stages(94, 95));
    assert_eq!(agent(&config, "c").stages, None);
}

#[test]
fn requests_are_paced_by_a_rate_or_up_to_a_longest_wait() {
    for (written, meant) in [
        ("off", Throttle::Off),
        ("1/min", Throttle::PerMinute(1)),
        ("2s", Throttle::Proportional(Duration::from_secs(2))),
    ] {
        assert_eq!(config(&format!("throttle = {written:?}")).plan().host.throttle, Some(meant));
    }
}

#[test]
fn an_account_takes_what_it_spent_along_to_its_new_name() {
    let config = config("[agent.new]\nwas = \"old\"\n[agent.\"new/late\"]\nwas = \"early\"\n");
    let renamed: Vec<_> = config.plan().renamed.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(renamed, [("old", "new"), ("new/early", "new/late")]);
}

#[test]
fn rows_are_kept_as_long_as_the_ledger_says() {
    assert_eq!(config("").ledger_keep, Duration::from_hours(9_600));
    assert_eq!(config("[ledger]\nkeep = \"90d\"\n").ledger_keep, Duration::from_hours(2_160));
}

#[test]
fn every_mistake_in_a_policy_names_its_fix() {
    let mut wrong = Vec::new();
    for (text, place, why) in [
        ("enforce = \"no\"", "1:11", "neither true nor false"),
        ("clamp = \"alway\"", "1:9", "did you mean `always`?"),
        ("wall = 1", "1:8", "write it as a string"),
        ("wait = 30", "1:8", "write it in quotes and with its unit"),
        ("wait = \"30\"", "1:8", "`30` is not a length of time"),
        ("wait = \"11m\"", "1:8", "write 10m or less"),
        ("max_requests = -1", "1:16", "not a count"),
        ("max_requests = 9223372036854775808", "1:16", "leave the limit out"),
        ("max_output_tokens = 0", "1:21", "above 0"),
        ("max_cost_usd = true", "1:16", "not an amount"),
        ("max_output_tokens = 10\nmin_output_tokens = 11", "2:21", "no ceiling fits"),
        ("max_output_tokens = 10\n[agent.a]\nmin_output_tokens = 11", "3:21", "no ceiling fits"),
        ("refusal_status = 200", "1:18", "from 400 to 499"),
        ("until = \"soon\"", "1:9", "not a time"),
        ("until = 5", "1:9", "not a time"),
        ("models = [\"a\"]", "1:10", "not a table"),
        ("models = { allow = [] }", "1:20", "which says nothing"),
        ("models = { alow = [\"a\"] }", "1:12", "did you mean `allow`?"),
        ("models = { deny = \"a\" }", "1:19", "not a list"),
        ("models = { deny = [1] }", "1:20", "string in quotes"),
        ("stages = { warn = 0 }", "1:19", "from 1 to 100"),
        ("stages = { warn = 95 }", "1:19", "`throttle` at 90 comes before `warn` at 95"),
        ("stages = { warn = 80, throttle = 70 }", "1:34", "put it at 80 or above"),
        ("stages = { alerts = 50 }", "1:21", "not a list"),
        ("stages = { alerts = [50, 50] }", "1:26", "there twice"),
        ("stages = { stop = 100 }", "1:12", "there is no key `stop`"),
        ("throttle = \"0/min\"", "1:12", "a rate like"),
        ("throttle = \"20/h\"", "1:12", "a rate like"),
        ("throttle = \"0s\"", "1:12", "a rate like"),
        ("throttle = \"2m\"", "1:12", "write 1m or less"),
        ("at_limit = \"dgrade\"", "1:12", "did you mean `degrade`?"),
        ("at_limit = \"degrade\"", "1:12", "add `[degrade]`"),
        ("[agent.a]\nat_limit = \"degrade\"", "2:12", "add `[agent.a.degrade]`"),
        ("[degrade]\nallowance_usd = 1\nmodels = { a = \"b\" }", "1:1", "add at_limit = \"degrade\""),
        ("at_limit = \"stop\"\n[degrade]\nallowance_usd = 1\nmodels = { a = \"b\" }", "2:1", "does nothing"),
        ("at_limit = \"degrade\"\n[degrade]\nmodels = { a = \"b\" }", "2:1", "has no `allowance_usd`"),
        ("at_limit = \"degrade\"\n[degrade]\nallowance_usd = 1", "2:1", "has no `models`"),
        ("at_limit = \"degrade\"\n[degrade]\nallowance_usd = 1\nmodels = {}", "4:10", "`models` is empty"),
        ("at_limit = \"degrade\"\n[degrade]\nallowance_usd = 1\nmodels = { a = \"b*\" }", "4:16", "without a `*`"),
        ("on_pace = \"stop\"", "1:11", "add it, like expect = \"10m\""),
        ("on_repeat = \"stop\"", "1:13", "add it, like repeats = 5"),
        ("on_baseline = \"slow\"", "1:15", "use one of `tell`, `throttle` or `stop`"),
        ("expect = \"0s\"", "1:10", "`0s` is no time at all; write a length above zero"),
        ("repeats = 1", "1:11", "2 or more"),
        ("labels = { \"a b\" = \"x\" }", "1:12", "not a label's key; use 1 to 63 lower-case letters"),
        ("labels = { Team = \"x\" }", "1:12", "not a label's key; use 1 to 63 lower-case letters"),
        ("[agent.a]\nlabels = { a = \"\" }", "2:12", "is not 1 to 255 bytes of text on one line"),
        ("labels = { a = 1 }", "1:16", "string in quotes"),
        ("budget_usd = 1\nlimit = [{ usd = 2 }]", "2:10", "in usd for the window `total` and the category `any`"),
        ("max_requests = 1\n[[limit]]\nrequests = 2", "2:1", "already; keep one of the two"),
        ("[[limit]]\nwindow = \"day\"", "1:1", "has no amount"),
        ("[[limit]]\nusd = 1\ntokens = 1", "3:10", "as a limit of its own"),
        ("[[limit]]\nusd = 1\nwindow = \"daily\"", "3:10", "`day`, `week`"),
        ("[[limit]]\nusd = 1\nwindow = \"task\"", "3:10", "below `[[agent.NAME.limit]]`"),
        ("[[limit]]\nusd = 1\ncategory = \"A B\"", "3:12", "not a category"),
        ("[[limit]]\nusd = 1\nper = \"day\"", "3:1", "there is no key `per` in `[[limit]]`"),
        ("[[agent.a.limit]]\nusd = 1\nper = \"day\"", "3:1", "in `[[agent.a.limit]]`"),
        ("limit = 5", "1:9", "below a line `[[limit]]`"),
        ("time_zone = \"Europe/Berln\"", "1:13", "did you mean `Europe/Berlin`?"),
        ("time_zone = \"here\"", "1:13", "IANA"),
        ("[ledger]\nkeep = \"1d\"", "2:8", "write \"32d\" or more"),
        ("[ledger]\nkep = \"100d\"", "2:1", "did you mean `keep`?"),
        ("ledger = 5", "1:10", "not a table"),
        ("[agent.a]\ntime_zone = \"UTC\"", "2:1", "stands at the top of the file"),
        ("[agent.a]\ndata_dir = \"/x\"", "2:1", "stands at the top of the file"),
        ("[agent.a.nightly]\nbudget_usd = 1", "1:10", "`[agent.\"a/nightly\"]`"),
        ("[agent]\na = 1", "2:5", "below `[agent.a]`"),
        ("agent = 1", "1:9", "below `[agent.NAME]`"),
        ("was = \"b\"", "1:1", "there is no key `was`"),
        ("[agent.a]\nwas = \"a\"", "2:7", "remove it"),
        ("[agent.a]\nwas = \"b/c\"", "2:7", "is not a name"),
        ("[agent.a]\nwas = \"b\"\n[agent.b]", "2:7", "stands in this file"),
        ("[agent.a]\nwas = \"c\"\n[agent.b]\nwas = \"c\"", "4:7", "became another account already"),
        ("[agent.\"a//b\"]", "1:8", "is not a name"),
        ("[agent.\"1/2/3/4/5/6/7/8\"]", "1:8", "deeper than 8"),
    ] {
        let found = mistakes(text);
        let told = format!("m.toml:{place}: ");
        if found.len() != 1 || !found[0].starts_with(&told) || !found[0].contains(why) {
            wrong.push((text, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_file_with_a_mistake_still_says_where_the_daemon_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.toml");
    fs::write(&path, "run_dir = \"/run/m\"\nenforce = 1\n").unwrap();
    let (config, mistakes) = Config::load_in_part(Some(&path)).unwrap();
    assert_eq!((config.run_dir.as_path(), mistakes.0.len()), (Path::new("/run/m"), 1));
    assert!(Config::load(Some(&path)).is_err());
}

#[test]
fn an_account_has_no_more_labels_than_a_command_line_may_give_it() {
    let text = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|n| format!("k{n} = \"v\"")).collect();
        format!("labels = {{ {} }}", pairs.join(", "))
    };
    assert_eq!(config(&text(LABELS_MAX)).plan().host.labels.len(), LABELS_MAX);
    let found = mistakes(&text(LABELS_MAX + 1));
    assert_eq!(found, ["m.toml:1:10: an account can have 16 labels, and these are 17; leave some out"]);
}

#[test]
fn every_label_that_the_config_takes_can_be_reported_by() {
    for key in ["team", "cost-centre.4_7", &"k".repeat(63), "Team", "a b", &"k".repeat(64)] {
        let taken = Config::parse(&format!("labels = {{ {key:?} = \"v\" }}"), Path::new("m.toml")).is_ok();
        assert_eq!(taken, format!("label.{key}").parse::<By>().is_ok(), "{key}");
    }
}

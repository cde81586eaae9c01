//! Before the wall and at it: what is told, how requests are slowed down, how they go on, and what is only observed.

use std::time::Duration;

use meter_tests::harness::{
    Lab, LabOptions, LedgerFile, Shell,
    chat::{Chat, curl, status},
    cost, pico, wait_for_state,
};

/// What an ordinary chat costs.
const CHAT: &str = "0.00275";

fn lab(config: &str) -> Lab {
    Lab::start(LabOptions::default().config(config))
}

/// An ordinary chat, whose text is another one each time.
fn chat(shell: &mut Shell, number: usize) -> u16 {
    let chat = Chat::ordinary().with(|directive| directive.size = Some(100 + number));
    status(&shell.run(&chat.curl()).stdout)
}

/// Spends what so many input tokens and 200 output tokens cost, at once.
fn spend(shell: &mut Shell, input: u64) {
    assert_eq!(status(&shell.run(&Chat::overrun(input).curl()).stdout), 200);
}

#[test]
fn each_stage_and_alert_point_is_told_exactly_once() {
    let mut lab = lab("[agent.told]\nbudget_usd = \"1\"\nthrottle = \"off\"\nstages = { alerts = [50, 75] }\n");
    let mut shell = Shell::open(&lab.agent("told"));
    let mut told = Vec::new();
    // $0.502, $0.754, $0.806, $0.908, $1.01
    for (input, stage) in [(200_000, "log"), (100_000, "log"), (20_000, "warn"), (40_000, "throttle"), (40_000, "stop")]
    {
        spend(&mut shell, input);
        told.push(lab.daemon.account("told").stage.unwrap());
        assert_eq!(told.last().map(String::as_str), Some(stage));
        assert_eq!(lab.daemon.events("told", "stage").len(), told.len());
    }
    let events = lab.daemon.events("told", "stage");
    for (event, point) in events.iter().zip(["50 %", "75 %", "80 %", "90 %", "101 %"]) {
        assert!(event.starts_with(point) && event.contains("total $1"), "{event} at {point}");
    }
    assert_eq!(lab.daemon.events("told", "overrun").len(), 1, "more than was held, told once an hour");
    // Neither a restart nor more money below the same point tells it again.
    drop(shell);
    lab.daemon.kill();
    lab.daemon.launch();
    assert_eq!(lab.daemon.events("told", "stage").len(), 5);
}

#[test]
fn a_rate_is_kept_and_who_leaves_takes_nobodys_turn() {
    let lab = lab("[agent.slow]\nbudget_usd = \"1\"\nthrottle = \"60/min\"\n");
    let mut shell = Shell::open(&lab.agent("slow"));
    spend(&mut shell, 364_000);
    assert_eq!(lab.daemon.account("slow").stage.as_deref(), Some("throttle"));
    let before = lab.simulator.exchanges().len();
    let line = Chat::ordinary().curl();
    let leaver = Chat::ordinary().options("--max-time 0.4").curl();
    // The first passes at once; one of those that wait behind it gives up.
    let printed = shell.run(&format!("({line}) & sleep 0.1; ({leaver}) & ({line}) & ({line}) & ({line}) & wait"));
    let answered = printed.stdout.lines().filter(|line| line.trim() == "200").count();
    assert_eq!(answered, 4, "{}", printed.stdout);
    let exchanges = lab.simulator.exchanges();
    assert_eq!(exchanges.len(), before + 4, "what was given up has not left the machine");
    let times: Vec<u64> = exchanges[before..].iter().map(|exchange| exchange.time_ms).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 900), "{times:?}");
    assert!(printed.took >= Duration::from_secs(3) && printed.took < Duration::from_secs(8), "{:?}", printed.took);
    assert!(lab.daemon.events("slow", "stage").iter().any(|event| event.contains("stage throttle")));
}

#[test]
fn a_delay_grows_with_what_is_gone() {
    let lab = lab("[agent.slow]\nbudget_usd = \"1\"\nthrottle = \"4s\"\n");
    let mut shell = Shell::open(&lab.agent("slow"));
    let before = {
        let printed = shell.run(&Chat::ordinary().curl());
        assert_eq!(status(&printed.stdout), 200);
        printed.took
    };
    // $0.95 are gone: half of the last tenth.
    spend(&mut shell, 378_000);
    let after = shell.run(&Chat::ordinary().curl());
    assert_eq!(status(&after.stdout), 200);
    assert!(before < Duration::from_millis(1_500), "{before:?}");
    assert!(after.took >= Duration::from_secs(2) && after.took < Duration::from_secs(5), "{:?}", after.took);
}

#[test]
fn a_limit_goes_on_into_an_overage_that_is_counted() {
    let lab = lab("[agent.on]\nbudget_usd = \"0.01\"\nat_limit = \"continue\"\nthrottle = \"off\"\n");
    let mut shell = Shell::open(&lab.agent("on"));
    for number in 0..6 {
        assert_eq!(chat(&mut shell, number), 200);
    }
    let account = lab.daemon.account("on");
    assert_eq!(account.spent(), 6 * pico(CHAT));
    assert_eq!(pico(&account.overage_usd), 6 * pico(CHAT) - pico("0.01"));
    assert_eq!((account.state.as_str(), account.stage.as_deref()), ("open", Some("stop")));
    let rows = lab.daemon.ledger_json("on");
    let beyond = rows.iter().filter(|row| row["overage"] == true).count();
    assert!((3..=5).contains(&beyond), "{rows:#?}");
    // 110 %, 137 % and 165 %: each is in another tenth.
    assert_eq!(lab.daemon.events("on", "overage").len(), 3);
}

#[test]
fn a_cheaper_model_takes_over_until_its_allowance_is_spent_too() {
    let lab = lab("[agent.less]\nbudget_usd = \"0.006\"\nthrottle = \"off\"\nat_limit = \"degrade\"\n\
         [agent.less.degrade]\nallowance_usd = \"0.0005\"\nmodels = { \"gpt-4o\" = \"gpt-4o-mini\" }\n");
    let mut shell = Shell::open(&lab.agent("less"));
    let signed = Chat::ordinary().options("-H 'content-digest: sha-256=:x:'");
    let mut refused = None;
    for number in 0..60 {
        match chat(&mut shell, number) {
            200 => {}
            402 => {
                refused = Some(number);
                break;
            }
            other => panic!("status {other}"),
        }
        if number == 1 {
            let printed = shell.run(&signed.curl());
            assert_eq!(status(&printed.stdout), 402, "a signed request can't be changed: {}", printed.stdout);
            assert!(printed.stdout.contains("total $0.006"), "{}", printed.stdout);
        }
    }
    assert!(refused.is_some(), "no wall");
    let exchanges = lab.simulator.exchanges();
    let sent: Vec<&str> = exchanges.iter().map(|exchange| exchange.requested_model.as_str()).collect();
    let dear = sent.iter().filter(|model| **model == "gpt-4o").count();
    assert!((1..=2).contains(&dear) && sent.len() > dear + 3, "{sent:?}");
    assert!(sent[dear..].iter().all(|model| *model == "gpt-4o-mini"), "{sent:?}");
    let rows: Vec<_> = lab.daemon.ledger_json("less").into_iter().filter(|row| row["outcome"] == "complete").collect();
    assert_eq!(rows.len(), sent.len());
    for row in rows.iter().filter(|row| row["requested_model"] == "gpt-4o-mini") {
        assert_eq!(row["degraded_from"], "gpt-4o");
        assert_eq!(pico(row["cost_usd"].as_str().unwrap()), cost("gpt-4o-mini", &exchanges[dear].billed));
    }
    let account = lab.daemon.account("less");
    assert!(account.spent() > pico("0.006") && account.spent() <= pico("0.0065"), "{account:#?}");
}

#[test]
fn a_cheaper_model_of_the_path_is_put_into_the_path() {
    let lab = lab("[agent.less]\nbudget_usd = \"0.000001\"\nat_limit = \"degrade\"\n\
         [agent.less.degrade]\nallowance_usd = \"0.1\"\nmodels = { \"gemini-2.5-*\" = \"gemini-2.0-flash\" }\n");
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":9}}"#;
    let url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent?key=k";
    let printed = lab.agent("less").shell(&curl(url, body, ""));
    assert_eq!(status(&printed.stdout), 200, "{printed:#?}");
    let path = "/v1beta/models/gemini-2.0-flash:generateContent?key=k";
    assert_eq!(lab.simulator.exchanges()[0].path, path);
    let row = &lab.daemon.ledger_json("less")[0];
    assert_eq!(
        (&row["degraded_from"], &row["requested_model"]),
        (&"gemini-2.5-flash".into(), &"gemini-2.0-flash".into())
    );
}

#[test]
fn observing_refuses_nothing_and_says_what_would_have_been() {
    let lab = lab(
        "[agent.tried]\nenforce = false\nbudget_usd = \"0.006\"\nmax_requests = 4\nmodels = { deny = [\"gpt-4o-mini\"] }\n",
    );
    let mut shell = Shell::open(&lab.agent("tried"));
    for number in 0..6 {
        assert_eq!(chat(&mut shell, number), 200);
    }
    let denied = Chat { model: "gpt-4o-mini".to_owned(), ..Chat::ordinary() };
    for _ in 0..2 {
        assert_eq!(status(&shell.run(&denied.curl()).stdout), 200);
    }
    // Overspent, and the kernel lets connect.
    let account = lab.daemon.account("tried");
    assert!(account.spent() > pico("0.006") && account.state == "open", "{account:#?}");
    shell.run("exec 9<>/dev/tcp/api.openai.com/443 && exec 9>&-").expect_code(0);
    assert_eq!(lab.daemon.account("tried").kernel.refused, 0);
    let rows = lab.daemon.ledger_json("tried");
    let would: Vec<&str> = rows.iter().filter_map(|row| row["would_refuse"].as_str()).collect();
    assert!(would.len() >= 5 && would.iter().any(|text| text.contains("gpt-4o-mini")), "{would:#?}");
    assert!(rows.iter().all(|row| row["outcome"] == "complete"), "{rows:#?}");
    // The budget, and the model: each once, however many requests.
    let events = lab.daemon.events("tried", "would_refuse");
    assert_eq!(events.len(), 2, "{events:#?}");
}

#[test]
fn the_same_request_again_and_again_is_stopped_by_policy() {
    let lab = lab("[agent.loops]\nbudget_usd = \"1\"\nrepeats = 3\non_repeat = \"stop\"\n");
    let mut shell = Shell::open(&lab.agent("loops").task("t"));
    for number in 0..4 {
        assert_eq!(chat(&mut shell, number), 200);
    }
    for _ in 0..2 {
        assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    }
    // The third is answered with why, if it is not the kernel that refuses its connect already.
    let printed = shell.run(&Chat::ordinary().curl());
    assert_eq!(status(&printed.stdout), 402, "{}", printed.stdout);
    assert!(printed.stdout.contains("3 times in a row"), "{}", printed.stdout);
    wait_for_state(&lab.daemon, "loops/t", "revoked");
    assert_eq!(lab.simulator.exchanges().len(), 6);
    assert_eq!(lab.daemon.events("loops", "repeat").len(), 1);
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    lab.daemon.call("restore", &["loops/t"]);
    assert_eq!(chat(&mut shell, 9), 200);
}

#[test]
fn a_budget_that_goes_too_fast_is_told_and_stopped_by_policy() {
    let lab = lab("[agent.fast]\nbudget_usd = \"1\"\nexpect = \"10m\"\non_pace = \"stop\"\n");
    let mut shell = Shell::open(&lab.agent("fast"));
    spend(&mut shell, 200_000);
    assert!(lab.daemon.events("fast", "pace").is_empty());
    spend(&mut shell, 120_000);
    wait_for_state(&lab.daemon, "fast", "revoked");
    let events = lab.daemon.events("fast", "pace");
    assert!(events.len() == 1 && events[0].contains("total $1"), "{events:#?}");
}

#[test]
fn a_day_far_above_the_days_before_is_told_once_and_stopped_by_policy() {
    let mut lab =
        lab("[agent.steady]\nbudget_usd = \"1\"\n[agent.strict]\nbudget_usd = \"1\"\non_baseline = \"stop\"\n\
         [agent.young]\nbudget_usd = \"1\"\n");
    // One task each, which stays open.
    let open = |lab: &Lab, agent: &str| Shell::open(&lab.agent(agent).task("t"));
    for (agent, days) in [("steady", 4), ("strict", 4), ("young", 2)] {
        let mut shell = open(&lab, agent);
        for number in 0..days {
            assert_eq!(chat(&mut shell, number), 200);
        }
    }
    assert!(lab.daemon.stop().success());
    LedgerFile::open(&lab.daemon).spread_over_the_days_before();
    assert!(String::from_utf8_lossy(&lab.daemon.output("ledger", &["verify"]).stdout).contains("is sound"));
    lab.daemon.launch();

    // A chat a day until now: the fourth of today is more than three times that.
    let mut steady = open(&lab, "steady");
    for number in 0..5 {
        assert_eq!(chat(&mut steady, number), 200);
        let told = lab.daemon.events("steady/t", "baseline");
        assert_eq!(told.len(), usize::from(number >= 3), "{told:#?}");
    }
    let told = lab.daemon.events("steady", "baseline");
    assert_eq!(told.len(), 2, "of the task and of its agent: {told:#?}");
    assert!(told.iter().all(|text| text.contains("$0.011") && text.contains("3 times the $0.00275")), "{told:#?}");
    assert_eq!(lab.daemon.account("steady").state, "open");

    let mut strict = open(&lab, "strict");
    for number in 0..4 {
        assert_eq!(chat(&mut strict, number), 200);
    }
    wait_for_state(&lab.daemon, "strict", "revoked");

    let mut young = open(&lab, "young");
    for number in 0..5 {
        assert_eq!(chat(&mut young, number), 200);
    }
    assert!(lab.daemon.events("young", "baseline").is_empty(), "two days are no baseline");
}

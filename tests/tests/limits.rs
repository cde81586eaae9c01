//! Limits of every kind, several at once: in dollars, tokens and requests, by window and category, of one request, of
//! models, and of 0.

use meter_tests::{
    harness::{
        Lab, LabOptions, Outcome, Shell,
        chat::{Chat, curl, status},
        pico, python_script, steps,
    },
    simulator::Config,
};

const PAYMENT: &str =
    r#"{"x402Version":1,"scheme":"exact","network":"base","payload":{"authorization":{"value":"10000"}}}"#;

fn lab(config: &str) -> Lab {
    Lab::start(LabOptions::default().config(config))
}

fn ask(shell: &mut Shell) -> Outcome {
    shell.run(&Chat::ordinary().curl())
}

/// Chats until a refusal, which must come: how many were answered, and what it said.
fn until_refused(shell: &mut Shell) -> (usize, String) {
    for number in 0..100 {
        let printed = ask(shell);
        match status(&printed.stdout) {
            200 => {}
            402 => return (number, printed.stdout),
            other => panic!("status {other}: {}", printed.stdout),
        }
    }
    panic!("no wall");
}

#[test]
fn of_several_limits_the_nearest_refuses_and_says_so() {
    let lab = lab("[agent.hours]\nbudget_usd = \"1\"\nthrottle = \"off\"\n\
         [[agent.hours.limit]]\nrequests = 3\nwindow = \"hour\"\n\
         [[agent.hours.limit]]\nusd = \"0.5\"\nwindow = \"day\"\n\
         [agent.tokens]\nbudget_usd = \"1\"\nthrottle = \"off\"\n\
         [[agent.tokens.limit]]\ntokens = 4000\nwindow = \"month\"\n\
         [[agent.tokens.limit]]\nrequests = 50\nwindow = \"week\"\n\
         [agent.days]\nbudget_usd = \"1\"\nthrottle = \"off\"\n\
         [[agent.days.limit]]\nusd = \"0.015\"\nwindow = \"day\"\n\
         [[agent.days.limit]]\nusd = \"0.02\"\nwindow = \"hour\"\n");
    let mut shell = Shell::open(&lab.agent("hours"));
    let (answered, said) = until_refused(&mut shell);
    assert_eq!(answered, 3);
    assert!(said.contains("hour 3 requests") && said.contains("resets at"), "{said}");
    let (answered, said) = until_refused(&mut Shell::open(&lab.agent("tokens")));
    assert!((4..=7).contains(&answered) && said.contains("month 4000 tokens"), "{answered}: {said}");
    let (answered, said) = until_refused(&mut Shell::open(&lab.agent("days")));
    assert!((3..=5).contains(&answered) && said.contains("day $0.015"), "{answered}: {said}");
    assert!(lab.daemon.account("days").spent() <= pico("0.015"));
}

#[test]
fn a_limit_of_a_category_counts_that_and_nothing_else() {
    let lab = lab("[agent.payer]\nbudget_usd = \"1\"\nthrottle = \"off\"\n\
         [[agent.payer.limit]]\nusd = \"0.015\"\nwindow = \"total\"\ncategory = \"x402\"\n");
    let mut shell = Shell::open(&lab.agent("payer"));
    let pay = format!(
        "curl -sS --max-time 60 -H \"x-payment: $(printf %s '{PAYMENT}' | base64 -w0)\" -w '\\n%{{http_code}}\\n' \
         https://api.openai.com/paid"
    );
    assert_eq!(status(&shell.run(&pay).stdout), 200);
    let refused = shell.run(&pay);
    assert_eq!(status(&refused.stdout), 402);
    assert!(refused.stdout.contains("(x402)"), "{}", refused.stdout);
    for _ in 0..6 {
        assert_eq!(status(&ask(&mut shell).stdout), 200, "another category's money is its own");
    }
    assert_eq!(lab.daemon.account("payer").state, "open");
}

#[test]
fn searches_and_own_calls_have_limits_of_their_own_beside_the_models() {
    let names = ["api.tavily.com", "api.example.com"];
    let simulator = Config { names: names.map(str::to_owned).into(), ..Config::default() };
    let options = names.iter().fold(LabOptions { simulator, ..LabOptions::default() }, |options, name| {
        options.name(name, std::net::Ipv4Addr::new(10, 88, 1, 2).into())
    });
    let lab = Lab::start(options.config(
        "[agent.seeker]\nbudget_usd = \"1\"\nthrottle = \"off\"\n\
         [[agent.seeker.limit]]\nusd = \"0.025\"\nwindow = \"day\"\ncategory = \"web-search\"\n\
         [[agent.seeker.limit]]\nrequests = 3\nwindow = \"hour\"\ncategory = \"lookup\"\n\
         [[api]]\nhost = \"api.example.com\"\npath = \"/v1/lookup\"\ncategory = \"lookup\"\nprice_usd = \"0.002\"\n\
         unit = \"records\"\npointer = \"/usage/records\"\nmax_units = 5\n",
    ));
    let mut shell = Shell::open(&lab.agent("seeker"));
    let search = curl("https://api.tavily.com/search", r#"{"query":"q"}"#, "-D -");
    let lookup = curl("https://api.example.com/v1/lookup", r#"{"of":"a"}"#, "-D -");
    // A search is $0.008, and two credits are held for it: a third one does not fit. A lookup bills two records, and three of them are all.
    for (call, fit, says) in [(&search, 2, "day $0.025 (web-search)"), (&lookup, 3, "hour 3 requests (lookup)")] {
        for _ in 0..fit {
            let printed = shell.run(call);
            assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
        }
        for _ in 0..2 {
            let refused = shell.run(call).stdout;
            assert_eq!(status(&refused), 402, "{refused}");
            assert!(refused.contains(says) && refused.contains("resets at"), "{refused}");
            assert!(refused.to_ascii_lowercase().contains("x-should-retry: false"), "{refused}");
        }
        assert_eq!(status(&ask(&mut shell).stdout), 200, "the models' money is not theirs");
    }
    let account = lab.daemon.account("seeker");
    let charged = 2 * pico("0.008") + 3 * 2 * pico("0.002") + 2 * pico("0.00275");
    assert_eq!((account.state.as_str(), account.spent()), ("open", charged));
    let rows = lab.daemon.ledger("seeker");
    let of = |category: &str| rows.iter().filter(|row| row.category == category && !row.is_refusal()).count();
    assert_eq!((of("web-search"), of("lookup"), of("llm")), (2, 3, 2));
    assert_eq!(lab.simulator.exchanges().len(), 7);
}

#[test]
fn a_cheap_loop_is_stopped_by_the_number_of_its_requests() {
    let lab = lab("[agent.cheap]\nmax_requests = 5\nthrottle = \"off\"\n");
    let mut shell = Shell::open(&lab.agent("cheap"));
    let body = r#"{"model":"text-embedding-3-small","input":"a"}"#;
    let embed = curl("https://api.openai.com/v1/embeddings", body, "-D -");
    for _ in 0..5 {
        assert_eq!(status(&shell.run(&embed).stdout), 200);
    }
    for _ in 0..3 {
        let refused = shell.run(&embed);
        assert_eq!(status(&refused.stdout), 402);
        assert!(refused.stdout.contains("5 requests"), "{}", refused.stdout);
        assert!(refused.stdout.to_ascii_lowercase().contains("x-should-retry: false"), "{}", refused.stdout);
    }
    assert_eq!(lab.simulator.exchanges().len(), 5);
}

#[test]
fn a_cap_of_zero_refuses_what_is_priced_and_no_cap_is_none() {
    let lab = lab("[agent.zero]\nbudget_usd = \"0\"\n[agent.open]\n\
         [[price]]\nmodel = \"house-free\"\ninput_mtok = \"0\"\noutput_mtok = \"0\"\n");
    let mut zero = Shell::open(&lab.agent("zero"));
    assert_eq!(status(&ask(&mut zero).stdout), 402);
    let free = Chat { model: "house-free".to_owned(), ..Chat::ordinary() };
    for _ in 0..2 {
        assert_eq!(status(&zero.run(&free.curl()).stdout), 200, "free models still work");
        assert_eq!(status(&ask(&mut zero).stdout), 402);
    }
    assert_eq!(lab.daemon.account("zero").state, "open");
    let mut open = Shell::open(&lab.agent("open"));
    assert_eq!(status(&ask(&mut open).stdout), 200);
    assert!(lab.daemon.account("open").remaining_usd.is_none());
    assert_eq!(lab.daemon.account("zero").remaining_usd.as_deref(), Some("0"));
}

#[test]
fn ten_tasks_spend_no_more_than_each_has_and_than_their_agent_has() {
    let lab = lab("[agent.fleet]\nbudget_usd = \"0.04\"\nthrottle = \"off\"\n\
         [[agent.fleet.limit]]\nusd = \"0.008\"\nwindow = \"task\"\n");
    let spent = |account: &str| lab.daemon.account(account).spent();
    let mut tasks = Vec::new();
    for number in 0..10 {
        let name = format!("t{number}");
        let printed = lab
            .agent("fleet")
            .task(&name)
            .shell(&format!("for i in $(seq 6); do ({}) || break; done", Chat::ordinary().curl()));
        assert!(!printed.stdout.contains("\n500\n"), "{printed:#?}");
        tasks.push(format!("fleet/{name}"));
    }
    let each: Vec<i128> = tasks.iter().map(|task| spent(task)).collect();
    assert!(each.iter().all(|spent| *spent <= pico("0.008")), "{each:?}");
    assert!(each[0] > 0 && each.contains(&0), "the agent's own limit comes first: {each:?}");
    assert_eq!(spent("fleet"), each.iter().sum::<i128>());
    assert!(spent("fleet") <= pico("0.04") && spent("fleet") >= pico("0.03"), "{each:?}");
}

#[test]
fn a_denied_model_is_a_403_in_each_providers_shape() {
    let lab = lab("[agent.lists]\nbudget_usd = \"1\"\nmodels = { allow = [\"gpt-4o\"] }\n");
    let mut shell = Shell::open(&lab.agent("lists"));
    let message = r#"{"model":"claude-haiku-4-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let gemini = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:generateContent";
    let mini = Chat { model: "gpt-4o-mini".to_owned(), ..Chat::ordinary() }.body();
    for (url, body, model) in [
        ("https://api.openai.com/v1/chat/completions", mini.as_str(), "gpt-4o-mini"),
        ("https://api.anthropic.com/v1/messages", message, "claude-haiku-4-5"),
        (gemini, contents, "gemini-2.0-flash"),
    ] {
        let printed = shell.run(&curl(url, body, "-D -"));
        assert_eq!(status(&printed.stdout), 403, "{}", printed.stdout);
        assert!(printed.stdout.to_ascii_lowercase().contains("x-should-retry: false"), "{}", printed.stdout);
        assert!(printed.stdout.contains(model) && printed.stdout.contains("account lists"), "{}", printed.stdout);
        let json = printed.stdout.lines().find(|line| line.starts_with('{')).expect("a body");
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        assert!(parsed["error"]["message"].is_string(), "{parsed}");
    }
    assert_eq!(status(&ask(&mut shell).stdout), 200);
    assert_eq!(lab.simulator.exchanges().len(), 1);
    let rows = lab.daemon.ledger("lists");
    let refused: Vec<_> = rows.iter().filter(|row| row.is_refusal()).collect();
    assert!(!refused.is_empty() && refused.iter().all(|row| row.outcome == "refused_request" && row.cost() == 0));
    assert!(refused.iter().all(|row| row.held_usd == "0" && row.reason.is_some()), "{refused:#?}");
}

#[test]
fn every_model_that_may_answer_is_looked_at_and_the_dearest_is_held() {
    let lab =
        lab("[agent.lists]\nbudget_usd = \"1\"\nthrottle = \"off\"\nmodels = { deny = [\"o3*\", \"claude-opus*\"] }\n");
    let mut shell = Shell::open(&lab.agent("lists"));
    let message = |more: &str| {
        format!(r#"{{"max_tokens":50,"messages":[{{"role":"user","content":"hi"}}],"model":"claude-haiku-4-5"{more}}}"#)
    };
    let chat = |model: &str, more: &str| {
        let body = Chat { model: model.to_owned(), ..Chat::ordinary() }.body();
        format!("{}{more}}}", &body[..body.len() - 1])
    };
    let (openai, anthropic) = ("https://api.openai.com/v1/chat/completions", "https://api.anthropic.com/v1/messages");
    for (url, body) in [
        (openai, chat("gpt-4o", r#","models":["gpt-4o-mini","o3-pro"]"#)),
        (openai, chat("gpt-4o", r#","providerOptions":{"gateway":{"models":["o3-pro"]}}"#)),
        (anthropic, message(r#","fallbacks":[{"model":"claude-opus-4-5"}]"#)),
    ] {
        let printed = shell.run(&curl(url, &body, ""));
        assert_eq!(status(&printed.stdout), 403, "{}", printed.stdout);
        let json = printed.stdout.lines().find(|line| line.starts_with('{')).expect("a body");
        let said: serde_json::Value = serde_json::from_str(json).unwrap();
        let said = said["error"]["message"].as_str().expect("in the provider's shape");
        assert!(said.contains("`o3-pro`") || said.contains("`claude-opus-4-5`"), "{said}");
    }
    assert!(lab.simulator.exchanges().is_empty());
    for body in [chat("gpt-4o", ""), chat("gpt-4o-mini", r#","models":["gpt-4o-mini","gpt-4o"]"#)] {
        assert_eq!(status(&shell.run(&curl(openai, &body, "")).stdout), 200);
    }
    let rows = lab.daemon.ledger("lists");
    let held: Vec<i128> = rows.iter().filter(|row| !row.is_refusal()).map(|row| pico(&row.held_usd)).collect();
    assert!(held.len() == 2 && held[1] >= held[0] && held[1] < 2 * held[0], "{rows:#?}");
}

#[test]
fn a_denied_model_is_raised_once_by_every_call_of_the_sdks() {
    let lab = lab("[agent.sdk]\nbudget_usd = \"1\"\nmodels = { deny = [\"*\"] }\n");
    let script = python_script("stubborn_agent.py");
    let outcome = lab.agent("sdk").run(&[script[0].as_str(), script[1].as_str()]);
    let seen = steps(outcome.expect_code(0));
    assert!(!seen.is_empty());
    for call in &seen {
        assert_eq!(call.facts["status"], 403, "{call:#?}");
    }
    assert!(lab.simulator.exchanges().is_empty());
    let rows = lab.daemon.ledger("sdk");
    let count: u64 = rows.iter().filter(|row| row.outcome == "refused_request").map(|row| row.count).sum();
    assert!(count <= seen.len() as u64, "an SDK retried: {rows:#?}");
}

#[test]
fn one_request_has_ceilings_of_its_own() {
    let lab = lab("[agent.set]\nbudget_usd = \"1\"\nmax_output_tokens = 100\n\
         [agent.lowered]\nbudget_usd = \"1\"\nmax_output_tokens = 100\nclamp = \"always\"\n\
         [agent.dear]\nbudget_usd = \"1\"\nmax_cost_usd = \"0.01\"\n");
    let sent = |agent: &str, chat: &Chat| {
        let before = lab.simulator.exchanges().len();
        let printed = lab.agent(agent).shell(&chat.curl());
        let request = lab.simulator.exchanges().get(before).map(|exchange| exchange.request.clone());
        (status(&printed.stdout), request, printed.stdout)
    };
    // Not stated: set. Stated and lower: as it is. Stated and larger: refused, or lowered where the policy says so.
    let (answered, request, _) = sent("set", &Chat::ordinary().ceiling(None));
    assert_eq!((answered, request.unwrap()["max_completion_tokens"].as_u64()), (200, Some(100)));
    let (answered, request, _) = sent("set", &Chat::ordinary().ceiling(Some(50)));
    assert_eq!((answered, request.unwrap()["max_completion_tokens"].as_u64()), (200, Some(50)));
    let (answered, request, said) = sent("set", &Chat::ordinary().ceiling(Some(200)));
    assert!(answered == 402 && request.is_none() && said.contains("max_output_tokens 100"), "{said}");
    let (answered, request, _) = sent("lowered", &Chat::ordinary().ceiling(Some(200)));
    let request = request.unwrap();
    assert_eq!((answered, request["max_completion_tokens"].as_u64()), (200, Some(100)));
    assert!(request["max_tokens"].is_null(), "a second ceiling was added: {request}");
    let (answered, ..) = sent("dear", &Chat::ordinary());
    assert_eq!(answered, 200);
    let (answered, request, said) = sent("dear", &Chat::ordinary().ceiling(Some(4_000)));
    assert!(answered == 402 && request.is_none() && said.contains("max_cost $0.01"), "{said}");
    assert_eq!(lab.daemon.account("dear").state, "open", "one dear request stops nobody");
}

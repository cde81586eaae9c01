//! A task's life: opened with a budget, gone on with, closed for good; and its labels.

use std::{fs, path::PathBuf, time::Duration};

use meter_tests::harness::{
    Daemon, Lab, LabOptions, Shell, binary,
    chat::{Chat, status},
    pico, wait_for, wait_for_state,
};

const PLENTY: &str = "1";
/// Fits two ordinary chats: each is held at somewhat more than its bill.
const LITTLE: &str = "0.01";
/// An ordinary chat's bill.
const CHAT: i128 = 2_750_000_000;
const SOON: Duration = Duration::from_secs(10);

fn chat(shell: &mut Shell) -> u16 {
    status(&shell.run(&Chat::ordinary().curl()).stdout)
}

/// One account of `meter status --json`, with every member.
fn json(daemon: &Daemon, account: &str) -> serde_json::Value {
    let text = daemon.call("status", &["--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = status["accounts"].as_array().unwrap().iter().find(|report| report["account"] == account);
    found.unwrap_or_else(|| panic!("no {account} in {status}")).clone()
}

/// `meter task open`: the cgroup that it made, and the file of certificates.
fn open(daemon: &Daemon, arguments: &[&str]) -> [PathBuf; 2] {
    let text = daemon.call("task", &[&["open", "--json"], arguments].concat());
    let opened: serde_json::Value = serde_json::from_str(&text).unwrap();
    ["cgroup", "bundle"].map(|key| PathBuf::from(opened[key].as_str().unwrap()))
}

fn close(daemon: &Daemon, task: &str, status: &str) -> String {
    daemon.call("task", &["close", task, "--status", status])
}

fn meter(lab: &Lab, words: &str) -> String {
    let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
    format!("{} {name} --config {} {rest}", binary("meter").display(), lab.daemon.config_file().display())
}

/// Waits for the reaper to have been at work from here on: a task of another agent comes and goes.
fn reaped(lab: &Lab, task: &str) {
    lab.agent("reaped").task(task).run(&["true"]).expect_code(0);
    let path = format!("reaped/{task}");
    wait_for("an ended task's cgroup to go", SOON, || lab.daemon.account(&path).cgroups.is_empty().then_some(()));
}

/// A start that fails at the ledger, after it has entered its own cgroup.
fn start_in_vain(lab: &Lab) {
    let ledger = lab.daemon.data_dir().join("meter.db");
    let aside = ledger.with_extension("aside");
    fs::rename(&ledger, &aside).unwrap();
    fs::create_dir(&ledger).unwrap();
    assert!(!lab.daemon.output("daemon", &[]).status.success());
    fs::remove_dir(&ledger).unwrap();
    fs::rename(&aside, &ledger).unwrap();
}

#[test]
fn opening_a_task_again_goes_on_with_what_it_has_spent() {
    let lab = Lab::with_budget("again", PLENTY);
    let run = || lab.agent("again").task("t").budget(LITTLE).shell(&Chat::ordinary().curl());
    let statuses: Vec<u16> = (0..3).map(|_| status(&run().stdout)).collect();
    assert_eq!(statuses, [200, 200, 402]);
    assert_eq!(lab.daemon.account("again/t").spent(), 2 * CHAT);
    // The agent has more, and a larger budget is one for what was spent before too.
    let larger = lab.agent("again").task("t").budget("0.02").shell(&Chat::ordinary().curl());
    assert_eq!(status(&larger.stdout), 200, "{larger:?}");
    assert_eq!(lab.daemon.account("again/t").spent(), 3 * CHAT);
}

#[test]
fn a_task_s_cgroup_sits_below_its_agent_s() {
    let lab = Lab::with_budget("below", PLENTY);
    let mut shell = Shell::open(&lab.agent("below").task("t"));
    shell.run("true").expect_code(0);
    let of_task = lab.daemon.account("below/t").cgroups;
    let of_agent = lab.daemon.account("below").cgroups;
    assert_eq!(of_task[0].parent(), Some(of_agent[0].as_path()));
    assert!(shell.run("cat /proc/self/cgroup").stdout.contains("/meter/agents/below/t"));
}

#[test]
fn a_closed_task_admits_nothing_and_cannot_be_opened_again() {
    let mut lab = Lab::with_budget("done", PLENTY);
    let mut shell = Shell::open(&lab.agent("done").task("t"));
    let mut sibling = Shell::open(&lab.agent("done").task("u"));
    assert_eq!(chat(&mut shell), 200);
    assert!(close(&lab.daemon, "done/t", "success").contains("success"));
    let refused = |shell: &mut Shell| {
        shell.run(&Chat::ordinary().curl()).expect_code(7);
    };
    refused(&mut shell);
    assert_eq!(chat(&mut sibling), 200, "its sibling goes on");
    let account = json(&lab.daemon, "done/t");
    assert_eq!((&account["state"], &account["status"]), (&"closed".into(), &"success".into()), "{account}");

    for task in ["done/t", "done/t/below"] {
        let again = lab.daemon.output("task", &["open", task]);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(!again.status.success());
        assert!(said.contains("the task `done/t` is closed and can't be opened again; use another name"), "{said}");
    }
    lab.agent("done").task("t").run(&["true"]).expect_code(125);
    assert!(close(&lab.daemon, "done/t", "failed").contains("was closed already, success"));

    // Whoever is still inside stays refused over a restart; then the cgroup goes.
    lab.daemon.kill();
    lab.daemon.launch();
    refused(&mut shell);
    drop(shell);
    wait_for("the closed task's cgroup to go", SOON, || lab.daemon.account("done/t").cgroups.is_empty().then_some(()));
    assert!(lab.daemon.output("task", &["open", "done/t"]).status.code() == Some(1), "it is closed for good");
    assert_eq!(lab.daemon.account("done/t").spent(), CHAT);
}

#[test]
fn closing_a_task_ends_what_it_has_under_way() {
    let lab = Lab::with_budget("busy", PLENTY);
    let mut shell = Shell::open(&lab.agent("busy").task("t"));
    let stream = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(600);
        directive.delay_ms = 100;
    });
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!(
        "({}) > $work/stream 2>&1 & while ! grep -q data: $work/stream; do sleep 0.01; done",
        stream.curl()
    ));
    close(&lab.daemon, "busy/t", "abandoned");
    let ended = shell.run("wait; cat $work/stream; rm -r $work");
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    assert!(!ended.stdout.contains("[DONE]"), "{}", ended.stdout);
    let row = wait_for("its row", SOON, || lab.daemon.ledger("busy").pop());
    assert_eq!(row.outcome, "cut");
}

#[test]
fn a_request_on_a_connection_of_a_closed_task_is_not_answered_by_the_provider() {
    let lab = Lab::with_budget("kept", PLENTY);
    let mut shell = Shell::open(&lab.agent("kept").task("t"));
    let body = Chat::ordinary().body();
    shell.run(&format!(
        "work=$(mktemp -d); mkfifo $work/go; cat > $work/kept.py <<'SCRIPT'\n\
         import http.client, sys\n\
         kept = http.client.HTTPSConnection('api.openai.com', timeout=20)\n\
         def ask():\n    kept.request('POST', '/v1/chat/completions', r'{body}', {{'content-type': 'application/json'}})\n    \
         answer = kept.getresponse(); answer.read(); return answer.status\n\
         print(ask(), flush=True)\nkept.auto_open = 0\nopen(sys.argv[1]).read()\n\
         try:\n    print(ask(), flush=True)\nexcept Exception as error:\n    print('ended', flush=True)\n\
         SCRIPT\n\
         python3 $work/kept.py $work/go > $work/out & kept=$!; while ! test -s $work/out; do sleep 0.01; done"
    ));
    close(&lab.daemon, "kept/t", "failed");
    let printed = shell.run("echo > $work/go; wait $kept; tail -1 $work/out; rm -r $work");
    assert!(["ended", "402"].contains(&printed.stdout.trim()), "{}", printed.stdout);
    assert_eq!(lab.simulator.exchanges().len(), 1);
}

#[test]
fn a_task_that_was_opened_for_whoever_enters_keeps_its_cgroup_until_it_is_closed() {
    let mut lab = Lab::with_budget("entered", PLENTY);
    let [cgroup, bundle] = open(&lab.daemon, &["entered/t", "--budget", LITTLE, "--label", "team=search"]);
    reaped(&lab, "first");
    assert!(cgroup.exists());
    lab.daemon.kill();
    start_in_vain(&lab);
    assert!(cgroup.exists(), "a start that failed took it away");
    lab.daemon.launch();
    reaped(&lab, "second");
    assert!(cgroup.exists(), "a restart forgot that it is open");

    // Any process that root moves into it is metered.
    let mut shell = Shell::outside(lab.daemon.names());
    shell.run(&format!("echo $$ > {}/cgroup.procs", cgroup.display())).expect_code(0);
    let printed = shell.run(&Chat::ordinary().options(&format!("--cacert {}", bundle.display())).curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    let rows = lab.daemon.ledger_json("entered");
    assert_eq!((&rows[0]["account"], &rows[0]["labels"]["team"]), (&"entered/t".into(), &"search".into()), "{rows:?}");

    close(&lab.daemon, "entered/t", "success");
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    drop(shell);
    wait_for("the closed task's cgroup to go", SOON, || (!cgroup.exists()).then_some(()));
}

#[test]
fn a_run_that_closes_its_task_says_how_it_ended() {
    let lab = Lab::with_budget("once", PLENTY);
    let run = |task: &str, script: &str| lab.agent("once").task(task).option(&["--close"]).shell(script);
    run("well", &Chat::ordinary().curl()).expect_code(0);
    run("badly", "exit 3").expect_code(3);
    for (task, ended) in [("once/well", "success"), ("once/badly", "failed")] {
        let account = json(&lab.daemon, task);
        assert_eq!((&account["state"], &account["status"]), (&"closed".into(), &ended.into()), "{account}");
    }
    assert_eq!(lab.daemon.account("once/well").spent(), CHAT);
    run("well", "true").expect_code(125);
    // Only the command's end closes it, and not the command: it is inside.
    let tried = run("inside", &meter(&lab, "task close once/inside --status success 2>&1"));
    assert!(tried.stdout.contains("can only open and close tasks below it"), "{tried:?}");
    assert_eq!(json(&lab.daemon, "once/inside")["status"], "failed");
}

#[test]
fn from_inside_only_tasks_below_are_opened_and_closed_and_labels_from_outside_stay() {
    let lab = Lab::with_budget("in", PLENTY);
    lab.agent("in").task("other").run(&["true"]).expect_code(0);
    let mut shell = Shell::open(&lab.agent("in").task("t").option(&["--label", "team=search"]));
    shell.run(&meter(&lab, "task open in/t/part --label step=1")).expect_code(0);
    assert_eq!(json(&lab.daemon, "in/t/part")["labels"], serde_json::json!({"step": "1", "team": "search"}));
    shell.run(&meter(&lab, "task close in/t/part --status success")).expect_code(0);
    for words in [
        "task open in/other",
        "task open in/new",
        "task open away/t",
        "task close in/other --status failed",
        "task close in/t --status success",
    ] {
        let printed = shell.run(&meter(&lab, words));
        printed.expect_code(1);
        assert!(printed.stdout.contains("can only open and close tasks below it"), "{words}: {}", printed.stdout);
    }
    for words in ["task open in/t/more --label team=ads", "run --agent in --task more --label team=ads -- true"] {
        let printed = shell.run(&meter(&lab, words));
        assert_ne!(printed.code, 0);
        assert!(printed.stdout.contains("the label team of in/t is set from outside"), "{words}: {}", printed.stdout);
    }
    assert_eq!(lab.daemon.account("in/other").state, "open");
    assert!(lab.daemon.output("task", &["open", "in"]).status.code() == Some(2), "an agent is no task");
}

#[test]
fn ten_tasks_are_told_apart_by_their_labels() {
    let lab = Lab::start(LabOptions::default().budget("many", PLENTY));
    for n in 0..10 {
        let (task, project) = (format!("t{n}"), format!("project=p{}", n % 2));
        let agent = lab.agent("many").task(&task).option(&["--label", &project, "--label", "user=u1"]);
        assert_eq!(status(&agent.shell(&Chat::ordinary().curl()).stdout), 200);
    }
    let report = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let text = lab.daemon.call("report", &[&["--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let by_project = report(&["--by", "label.project"]);
    assert_eq!(by_project.len(), 2, "{by_project:?}");
    for line in &by_project {
        assert_eq!((&line["exchanges"], &line["input_tokens"]), (&5.into(), &1_500.into()), "{line}");
        assert_eq!(pico(line["cost_usd"].as_str().unwrap()), 5 * CHAT, "{line}");
    }
    let tasks = report(&["--by", "task,model", "--label", "project=p1", "--since", "1h"]);
    let names: Vec<&str> = tasks.iter().filter_map(|line| line["task"].as_str()).collect();
    assert_eq!(names, ["many/t1", "many/t3", "many/t5", "many/t7", "many/t9"]);
    assert!(report(&["--until", "1h"]).is_empty());
    let whole = report(&["--by", "agent", "--account", "many"]);
    assert_eq!(pico(whole[0]["cost_usd"].as_str().unwrap()), lab.daemon.account("many").spent());
    let csv = lab.daemon.call("report", &["--csv", "--by", "agent"]);
    assert!(csv.starts_with("agent,exchanges,refusals,"), "{csv}");

    let rows = lab.daemon.call("ledger", &["--json", "--label", "project=p0", "--label", "user=u1"]);
    assert_eq!(rows.lines().count(), 5, "{rows}");
    let shown = lab.daemon.call("status", &["--label", "project=p0"]);
    assert!(shown.contains("many/t0") && !shown.contains("many/t1"), "{shown}");
}

#[test]
fn the_events_tell_a_task_s_life() {
    let lab = Lab::with_budget("life", PLENTY);
    open(&lab.daemon, &["life/t", "--budget", "0.5"]);
    close(&lab.daemon, "life/t", "abandoned");
    let text = lab.daemon.call("events", &["--json", "--account", "life/t"]);
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(&str, &str)> =
        events.iter().filter_map(|event| Some((event["kind"].as_str()?, event["text"].as_str()?))).collect();
    assert_eq!(told, [("task_opened", "opened with $0.5"), ("task_closed", "closed: abandoned, $0 spent")]);
}

#[test]
fn a_stopped_task_is_resumed_by_a_funding() {
    let lab = Lab::with_budget("fed", PLENTY);
    let mut shell = Shell::open(&lab.agent("fed").task("t").budget(LITTLE));
    while chat(&mut shell) == 200 {}
    wait_for_state(&lab.daemon, "fed/t", "stopped");
    lab.daemon.call("fund", &["fed/t", LITTLE]);
    assert_eq!(chat(&mut shell), 200);
}

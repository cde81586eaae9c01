//! The config while the daemon runs: put into force by signal, by command and by edit; what is wrong changes nothing.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use meter_tests::{
    harness::{
        Lab, LabOptions, Shell,
        chat::{Chat, curl, status},
        pico, wait_for, wait_for_state,
    },
    simulator::Config,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Fits a few ordinary chats.
const LITTLE: &str = "0.02";
/// A change is seen within a second or two, on a busy machine later.
const SEEN: Duration = Duration::from_secs(20);
/// What the daemon logs when it keeps what was in force.
const KEPT: &str = "not put into force";

/// The config file's text, as the lab wrote it, with more behind it.
fn text(lab: &Lab, more: &str) -> String {
    let written = fs::read_to_string(lab.daemon.config_file()).expect("the lab's config");
    let base: Vec<&str> = written.lines().take_while(|line| !line.starts_with('[')).collect();
    format!("{}\n{more}", base.join("\n"))
}

/// Replaces the config file as an editor does: written beside it, renamed into place.
fn edit(lab: &Lab, more: &str) {
    let file = lab.daemon.config_file();
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, text(lab, more)).and_then(|()| fs::rename(&fresh, &file)).expect("a file can be replaced");
}

/// Another file beside it.
fn beside(lab: &Lab, more: &str) -> PathBuf {
    let file = lab.daemon.config_file().with_extension("other.toml");
    fs::write(&file, text(lab, more)).expect("a file can be written");
    file
}

fn budget(agent: &str, usd: &str) -> String {
    format!("[agent.{agent}]\nbudget_usd = {usd:?}\n")
}

fn hang_up(lab: &Lab) {
    let pid = i32::try_from(lab.daemon.pid()).ok().and_then(Pid::from_raw).expect("the daemon has a pid");
    kill_process(pid, Signal::HUP).expect("it can be signalled");
}

/// Chats until nothing is answered any more, and waits for the account to stop.
fn spend(lab: &Lab, shell: &mut Shell, agent: &str) {
    for _ in 0..100 {
        if status(&shell.run(&Chat::ordinary().curl()).stdout) != 200 {
            return wait_for_state(&lab.daemon, agent, "stopped");
        }
    }
    panic!("no wall");
}

/// `meter config show --json`.
fn in_force(lab: &Lab) -> Value {
    serde_json::from_str(&lab.daemon.call("config", &["show", "--json"])).expect("JSON")
}

/// One account of it.
fn account(shown: &Value, name: &str) -> Value {
    let all = shown["accounts"].as_array().expect("accounts");
    all.iter().find(|account| account["account"] == name).unwrap_or_else(|| panic!("no {name} in {shown:#}")).clone()
}

fn is_in_force(lab: &Lab) -> bool {
    in_force(lab)["config"]["in_force"].as_bool().expect("said")
}

#[test]
fn a_limit_edited_keeps_what_was_spent_and_holds_at_once() {
    let mut lab = Lab::with_budget("wall", LITTLE);
    let mut shell = Shell::open(&lab.agent("wall"));
    spend(&lab, &mut shell, "wall");
    let spent = lab.daemon.account("wall").spent();

    // By signal: it goes on where it was.
    edit(&lab, &budget("wall", "0.04"));
    hang_up(&lab);
    wait_for_state(&lab.daemon, "wall", "open");
    assert_eq!(lab.daemon.account("wall").spent(), spent);
    assert_eq!(pico(lab.daemon.account("wall").remaining_usd.as_deref().unwrap()), pico("0.04") - spent);
    spend(&lab, &mut shell, "wall");
    let spent = lab.daemon.account("wall").spent();
    assert!(spent <= pico("0.04"));

    // By command: the file's word is in force when it answers.
    edit(&lab, &budget("wall", "0.06"));
    lab.daemon.call("reload", &[]);
    assert_eq!(account(&in_force(&lab), "wall")["limits"][0]["limit"], "0.06");
    assert_eq!(lab.daemon.account("wall").state, "open");
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    let spent = lab.daemon.account("wall").spent();

    // By edit alone: one that is below what is spent stops it.
    edit(&lab, &budget("wall", "0.01"));
    wait_for("the edit to be seen", SEEN, || (lab.daemon.account("wall").state != "open").then_some(()));
    wait_for_state(&lab.daemon, "wall", "stopped");
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    assert_eq!(lab.daemon.account("wall").spent(), spent);

    // And the next daemon knows both.
    lab.daemon.kill();
    lab.daemon.launch();
    let account = lab.daemon.account("wall");
    assert_eq!((account.spent(), pico(account.remaining_usd.as_deref().unwrap())), (spent, pico("0.01") - spent));
}

#[test]
fn every_way_to_reload_is_an_event() {
    let lab = Lab::with_budget("wall", LITTLE);
    // Neither changes anything, so that only the signal and the command can have said so.
    let told = |count: usize| {
        wait_for("the event", SEEN, || (lab.daemon.log().matches("nothing changed").count() == count).then_some(()));
    };
    hang_up(&lab);
    told(1);
    let printed = lab.daemon.call("reload", &[]);
    assert!(printed.contains("Nothing changes"), "{printed}");
    told(2);
    edit(&lab, &budget("wall", "0.03"));
    wait_for("the edit to be in force", SEEN, || lab.daemon.log().contains("1 limit changed").then_some(()));
    assert!(is_in_force(&lab));
}

#[test]
fn a_broken_file_changes_nothing_and_says_where() {
    let mut lab = Lab::with_budget("wall", "1");
    lab.daemon.expect_log(KEPT);
    let before = in_force(&lab);
    let line = text(&lab, "").lines().count() + 1;
    edit(&lab, "enforce = \"no\"\n[agent.wall]\nbugdet_usd = 1\n");
    let file = lab.daemon.config_file();
    let (first, second) = (format!("{}:{line}:11: ", file.display()), format!("{}:{}:1: ", file.display(), line + 2));

    let refused = lab.daemon.output("reload", &[]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors.contains(&first) && errors.contains(&second), "{errors}");
    hang_up(&lab);
    wait_for("the signal to be answered", SEEN, || (lab.daemon.log().matches(KEPT).count() >= 2).then_some(()));

    // What was in force is, and people are told that it is not the file.
    let after = in_force(&lab);
    assert_eq!((&after["accounts"], &after["settings"]), (&before["accounts"], &before["settings"]));
    assert_eq!(after["config"]["in_force"], false);
    assert!(after["config"]["fault"].as_str().unwrap().contains(&second));
    let shown = lab.daemon.call("status", &[]);
    assert!(shown.contains("is not what is in force"), "{shown}");
    let doctor = lab.daemon.output("doctor", &[]);
    let findings = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(findings.lines().any(|line| line.starts_with("FAIL  config")), "{findings}");
    // Agents go on.
    let printed = lab.agent("wall").shell(&Chat::ordinary().curl());
    assert_eq!(status(&printed.stdout), 200, "{printed:?}");

    // Gone is not the same as empty.
    fs::remove_file(&file).unwrap();
    wait_for("the file to be missed", SEEN, || {
        let fault = in_force_by(&lab, &before)["config"]["fault"].as_str().map(str::to_owned);
        fault.filter(|fault| fault.contains("does not exist"))
    });
    assert_eq!(account(&in_force_by(&lab, &before), "wall")["limits"][0]["limit"], "1");

    fs::write(&file, "").unwrap();
    fs::write(&file, before_text(&before, &lab)).unwrap();
    wait_for("the file to be in force again", SEEN, || is_in_force(&lab).then_some(()));
}

/// As [`in_force`], where the config file is gone: another one says where the daemon is.
fn in_force_by(lab: &Lab, before: &Value) -> Value {
    let file = lab.daemon.config_file().with_extension("where.toml");
    fs::write(&file, before_text(before, lab)).unwrap();
    let mut command = std::process::Command::new(meter_tests::harness::binary("meter"));
    let output = meter_tests::harness::output(command.args(["config", "show", "--json", "--config"]).arg(&file));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A file that says what the lab's did.
fn before_text(before: &Value, lab: &Lab) -> String {
    let settings = &before["settings"];
    let key = |name: &str| format!("{name} = {}\n", settings[name]);
    let folders = ["data_dir", "run_dir", "upstream_ca_file"].map(key).concat();
    assert!(folders.contains(&lab.daemon.run_dir().display().to_string()));
    format!("{folders}{}", budget("wall", "1"))
}

#[test]
fn a_renamed_agent_keeps_what_it_spent() {
    let mut lab = Lab::with_budget("old", LITTLE);
    lab.daemon.expect_log(KEPT);
    let mut shell = Shell::open(&lab.agent("old").task("first"));
    spend(&lab, &mut shell, "old");
    let before = lab.daemon.account("old");
    let renamed = format!("{}was = \"old\"\n", budget("new", LITTLE));

    // Its processes would go on without a limit: refused as long as there are any.
    edit(&lab, &renamed);
    let refused = lab.daemon.output("reload", &[]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("can't become new while it has processes"), "{errors}");
    assert_eq!(lab.daemon.account("old").state, "stopped");

    shell.close();
    wait_for("the cgroup to be gone", SEEN, || (lab.daemon.output("reload", &[]).status.success()).then_some(()));
    let after = lab.daemon.account("new");
    assert_eq!((after.spent(), after.exchanges), (before.spent(), before.exchanges));
    assert!(lab.daemon.status().accounts.iter().all(|account| account.account != "old"));
    assert_eq!(lab.daemon.account("new/first").spent(), before.spent());
    assert_eq!(lab.daemon.ledger("new").len(), usize::try_from(lab.daemon.account("new").exchanges).unwrap() + 1);
    // The money is as gone as it was.
    let refused = lab.agent("new").shell(&Chat::ordinary().curl());
    assert_ne!(status(&refused.stdout), 200, "{refused:?}");

    // A `was` that has done its work does no harm, now or later.
    lab.daemon.kill();
    lab.daemon.launch();
    assert_eq!(lab.daemon.account("new").spent(), before.spent());
    assert!(is_in_force(&lab));
}

#[test]
fn a_file_is_checked_and_compared_before_it_is_in_force() {
    let lab = Lab::with_budget("wall", LITTLE);
    let printed = lab.agent("wall").shell(&Chat::ordinary().curl());
    assert_eq!(status(&printed.stdout), 200);
    let before = in_force(&lab);
    let spent = lab.daemon.account("wall").spent_usd;

    let more = "wait = \"5s\"\n[agent.wall]\nbudget_usd = \"0.05\"\nmax_output_tokens = 512\n\
                [[agent.wall.limit]]\nrequests = 100\nwindow = \"day\"\n[agent.fresh]\nlabels = { team = \"search\" }\n";
    let file = beside(&lab, more);
    let file = file.to_str().unwrap();
    assert!(lab.daemon.call("config", &["check", file]).contains("no mistakes"));
    let diff: Value = serde_json::from_str(&lab.daemon.call("config", &["diff", "--json", file])).unwrap();
    let raised = &diff["limits"][0];
    assert_eq!(
        (&raised["account"], &raised["before"], &raised["after"]),
        (&"wall".into(), &LITTLE.into(), &"0.05".into())
    );
    assert_eq!(raised["spent"], spent);
    let daily = &diff["limits"][1];
    assert_eq!((&daily["before"], &daily["after"], &daily["spent"]), (&Value::Null, &"100".into(), &"1".into()));
    assert_eq!(diff["added"], serde_json::json!(["fresh"]));
    let changed: Vec<String> = diff["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change["account"].as_str().unwrap(), change["key"].as_str().unwrap()))
        .collect();
    // What every account has from the host is told once.
    assert_eq!(changed, ["host wait", "wall max_output_tokens", "fresh labels"]);
    let shown = lab.daemon.call("config", &["diff", file]);
    assert!(shown.contains("+ fresh") && shown.contains("$0.05"), "{shown}");
    assert_eq!(in_force(&lab), before, "a comparison changes nothing");

    let bad = beside(&lab, "wait = 5\n[[limit]]\nusd = 1\ntokens = 2\n");
    let line = text(&lab, "").lines().count() + 1;
    let checked = lab.daemon.output("config", &["check", bad.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1));
    let found = String::from_utf8(checked.stdout).unwrap();
    let places: Vec<String> = found.lines().map(|l| l.split(": ").next().unwrap().to_owned()).collect();
    let place = |line: usize, column: usize| format!("{}:{line}:{column}", bad.display());
    assert_eq!(places, [place(line, 8), place(line + 3, 10)]);
    let refused = lab.daemon.output("config", &["diff", bad.to_str().unwrap()]);
    assert!(!refused.status.success());

    // An agent can't try configs, nor reload one.
    let command = |words: &str| {
        format!(
            "{} {words} --config {}",
            meter_tests::harness::binary("meter").display(),
            lab.daemon.config_file().display()
        )
    };
    for words in ["reload".to_owned(), format!("config diff {file}")] {
        let printed = lab.agent("wall").shell(&format!("{} 2>&1", command(&words)));
        assert!(printed.stdout.contains("ask from outside of every account"), "{printed:?}");
    }
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_changed() {
    let lab = Lab::with_budget("wall", LITTLE);
    let file = lab.daemon.config_file();
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, format!("durability = \"strict\"\nplan = \"count\"\n{}", text(&lab, &budget("wall", "0.5"))))
        .unwrap();
    fs::rename(&fresh, &file).unwrap();
    wait_for("the edit to be in force", SEEN, || {
        (account(&in_force(&lab), "wall")["limits"][0]["limit"] == "0.5").then_some(())
    });
    let shown = in_force(&lab);
    assert_eq!((&shown["settings"]["durability"], &shown["settings"]["plan"]), (&"full".into(), &"count".into()));
    assert_eq!(shown["config"]["restart"], serde_json::json!(["durability"]));
    let shown = lab.daemon.call("status", &[]);
    assert!(shown.contains("in force but for durability; restart the daemon"), "{shown}");
    let diff = lab.daemon.call("config", &["diff"]);
    assert_eq!(diff, "durability: \"full\" -> \"strict\" (after a restart)\n");
}

#[test]
fn a_host_added_while_agents_run_is_metered_and_trusted() {
    let name = "llm.corp.example";
    let options =
        LabOptions { simulator: Config { names: vec![name.to_owned()], ..Config::default() }, ..LabOptions::default() };
    let lab = Lab::start(options.budget("wall", "1").name(name, std::net::Ipv4Addr::new(10, 88, 1, 2).into()));
    let mut shell = Shell::open(&lab.agent("wall").task("t"));
    let ca = lab.simulator.ca_file();
    let url = format!("https://{name}/v1/chat/completions");
    let chat = Chat::ordinary().body();
    // Not metered: a tunnel to the host's own certificate.
    let own = shell.run(&curl(&url, &chat, &format!("--cacert {}", ca.display())));
    assert_eq!(status(&own.stdout), 200, "{}", own.stdout);
    assert_eq!(lab.daemon.account("wall").spent(), 0);

    let host = format!("[[host]]\nname = {name:?}\ndialect = \"openai\"\n");
    edit(&lab, &format!("{host}{}", budget("wall", "1")));
    lab.daemon.call("reload", &[]);
    // The same shell, whose bundle was written before: the next program trusts the new authority.
    let metered = shell.run(&curl(&url, &chat, ""));
    assert_eq!(status(&metered.stdout), 200, "{}", metered.stdout);
    wait_for("the charge", SEEN, || (lab.daemon.account("wall").spent() == pico("0.00275")).then_some(()));

    // And a price of one's own for it.
    let price = "[[price]]\nmodel = \"gpt-4o\"\nrequest = \"0.5\"\n";
    edit(&lab, &format!("{host}{price}{}", budget("wall", "1")));
    lab.daemon.call("reload", &[]);
    assert_eq!(status(&shell.run(&curl(&url, &chat, "")).stdout), 200);
    wait_for("the charge", SEEN, || (lab.daemon.account("wall").spent() == pico("0.50275")).then_some(()));

    // Taken out again, it is a tunnel again.
    edit(&lab, &budget("wall", "1"));
    lab.daemon.call("reload", &[]);
    let own = shell.run(&curl(&url, &chat, &format!("--cacert {}", ca.display())));
    assert_eq!(status(&own.stdout), 200, "{}", own.stdout);
    assert_eq!(lab.daemon.account("wall").spent(), pico("0.50275"));
}

/// Killed when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hangup_while_the_daemon_starts_does_not_end_it() {
    let lab = Lab::prepare(LabOptions::default());
    let child = lab.daemon.meter("daemon").stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut started = Started(child);
    let pid = Pid::from_child(&started.0);
    let signal = |signal| kill_process(pid, signal).expect("it can be signalled");
    let is_there = |end: &str| {
        let files = fs::read_dir(lab.daemon.run_dir()).into_iter().flatten().flatten();
        files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(end))
    };
    wait_for("its lock", SEEN, || is_there(".lock"));
    let mut looks = 0;
    wait_for("its socket", SEEN, || {
        // Some ten a second.
        looks += 1;
        if looks % 20 == 1 {
            signal(Signal::HUP);
        }
        UnixStream::connect(is_there(".sock")?).ok()
    });
    assert!(lab.daemon.call("status", &[]).contains("host"));
    signal(Signal::TERM);
    assert!(started.0.wait().expect("it ends").success());
}

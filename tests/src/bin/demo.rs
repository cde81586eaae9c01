//! `cargo xtask demo`: an agent with $0.02 runs against the wall, twenty calls at once don't get past it, and people stop
//! and fund it; one sees who spent what and who refused.
//!
//! The provider is the simulator, on real TLS in a namespace of its own; the agent is a shell with curl, run by
//! `meter run` with nothing changed. Everything is taken down again at the end.

use std::time::Duration;

use meter_tests::harness::{
    Daemon, Lab, LabOptions, Row, Shell,
    chat::{Chat, status},
    wait_for, wait_for_state,
};

const AGENT: &str = "research";
const TASK: &str = "research/demo";
const RUSH: &str = "research/rush";
const BUDGET: &str = "0.02";
/// More calls than the budget can pay for.
const CALLS: usize = 50;
const AT_ONCE: usize = 20;

fn main() {
    say("Starting a provider simulator (real TLS, a network namespace of its own) and the meter daemon.");
    let lab = Lab::start(LabOptions::default());
    let mut shell = against_the_wall(&lab);
    funded(&lab.daemon, &mut shell);
    at_once(&lab);
    left(&lab.daemon, &mut shell);
    revoked(&lab.daemon, &mut shell);
    drop(shell);
    sums(&lab.daemon);
    drop(lab);
    say("Stopped and uninstalled: nothing is left attached.");
}

/// One call after the other until the money is gone. The shell stays open.
fn against_the_wall(lab: &Lab) -> Shell {
    command(&format!(
        "run --agent {AGENT} --task demo --budget {BUDGET} -- bash    # an agent that calls gpt-4o with curl"
    ));
    let mut shell = Shell::open(&lab.agent(AGENT).task("demo").budget(BUDGET));
    let refusal = spend(&lab.daemon, &mut shell);
    say("The money is gone: the sidecar answers 402, in the provider's own shape.");
    println!("{}", pretty(&refusal));
    wait_for_state(&lab.daemon, TASK, "stopped");
    say("The agent tries again: now the kernel refuses the connection itself (curl's exit code 7).");
    again(&mut shell);
    command(&format!("ledger --agent {AGENT}"));
    print!("{}", lab.daemon.call("ledger", &["--agent", AGENT]));
    command("status");
    print!("{}", lab.daemon.call("status", &[]));
    shell
}

fn funded(daemon: &Daemon, shell: &mut Shell) {
    command(&format!("fund {TASK} 0.01    # and the same shell goes on"));
    print!("{}", daemon.call("fund", &[TASK, "0.01"]));
    spend(daemon, shell);
}

/// Each request is held at its worst case before it is forwarded, so that none of them can pass the budget.
fn at_once(lab: &Lab) {
    command(&format!(
        "run --agent {AGENT} --task rush --budget {BUDGET} -- ...    # {AT_ONCE} calls at the same moment"
    ));
    let call = Chat::ordinary().curl();
    let printed = lab
        .agent(AGENT)
        .task("rush")
        .budget(BUDGET)
        .shell(&format!("for i in $(seq {AT_ONCE}); do ({call} -o /dev/null) 2>/dev/null & done; wait"));
    let answered = printed.stdout.lines().filter(|line| line.trim() == "200").count();
    let account = lab.daemon.account(RUSH);
    println!("{answered} answered, {} not: ${} spent of ${BUDGET}", AT_ONCE - answered, account.spent_usd);
}

/// An answer of four seconds, as a stream.
fn stream(options: &str) -> String {
    let slow = Chat::ordinary().stream().with(|directive| {
        directive.chunks = Some(200);
        directive.delay_ms = 20;
    });
    slow.options(&format!("-N {options}")).curl()
}

/// An agent that leaves in the middle of an answer pays for what was delivered, by an estimate.
fn left(daemon: &Daemon, shell: &mut Shell) {
    command(&format!("fund {TASK} 1    # and the agent leaves in the middle of an answer"));
    print!("{}", daemon.call("fund", &[TASK, "1"]));
    shell.run(&stream("-o /dev/null --max-time 1"));
    let row = wait_for("the row of the stream", Duration::from_secs(30), || {
        daemon.ledger(AGENT).into_iter().find(|row| row.stream && !row.is_refusal())
    });
    println!("{}; {}, {}", describe(&row), row.outcome.replace('_', " "), row.usage_quality);
}

/// A stream is under way when somebody shuts the agent.
fn revoked(daemon: &Daemon, shell: &mut Shell) {
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!(
        "({}) > $work/stream 2>&1 & while ! grep -q data: $work/stream; do sleep 0.01; done",
        stream("")
    ));
    command(&format!("revoke {AGENT} --reason 'runs wild'    # while an answer is streaming"));
    print!("{}", daemon.call("revoke", &[AGENT, "--reason", "runs wild"]));
    println!("the stream ends with:");
    // Its last words, or how it broke off.
    let last = "grep -m 1 account_revoked $work/stream || grep '^curl:' $work/stream";
    print!("{}", shell.run(&format!("wait; {last}; rm -r $work")).stdout);
    again(shell);
    command(&format!("restore {AGENT}"));
    print!("{}", daemon.call("restore", &[AGENT]));
}

/// Who spent what, and what people did.
fn sums(daemon: &Daemon) {
    wait_for("the last exchange", Duration::from_secs(5), || (daemon.account(AGENT).held_usd == "0").then_some(()));
    command("report --by task,model");
    print!("{}", daemon.call("report", &["--by", "task,model"]));
    command("events");
    print!("{}", daemon.call("events", &[]));
    command("ledger verify");
    print!("{}", daemon.call("ledger", &["verify"]));
}

/// Calls until it is refused; returns the refusal.
fn spend(daemon: &Daemon, shell: &mut Shell) -> String {
    for number in 1..=CALLS {
        let printed = shell.run(&Chat::ordinary().curl());
        if status(&printed.stdout) != 200 {
            println!("call {number:>2}: refused");
            return printed.stdout;
        }
        let row = daemon.ledger(AGENT).into_iter().rfind(|row| !row.is_refusal()).expect("an answered call has a row");
        println!("call {number:>2}: {}", describe(&row));
    }
    panic!("{CALLS} calls and no wall");
}

fn again(shell: &mut Shell) {
    let again = shell.run(&Chat::ordinary().options("-o /dev/null").curl());
    let said = again.stdout.lines().find(|line| line.starts_with("curl:")).unwrap_or_default();
    println!("{said}\ncurl ended with {} after {} ms", again.code, again.took.as_millis());
}

fn describe(row: &Row) -> String {
    let model = row.model.as_deref().unwrap_or("?");
    let (input, output) = (row.usage.input_tokens, row.usage.output_tokens);
    format!(
        "{model}, {input} tokens in, {output} out, ${} ({} by pid {})",
        row.cost_usd, row.process.exe, row.process.pid
    )
}

/// The body of an answer with a line per member, and the status below it.
fn pretty(answer: &str) -> String {
    let json = answer.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let shown = serde_json::from_str::<serde_json::Value>(json).and_then(|body| serde_json::to_string_pretty(&body));
    format!("{}\n{}", shown.unwrap_or_else(|_| json.to_owned()), status(answer))
}

fn command(words: &str) {
    say(&format!("meter {words}"));
}

fn say(text: &str) {
    println!("\n== {text}");
}

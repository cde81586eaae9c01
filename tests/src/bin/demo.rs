//! `cargo xtask demo`: an agent with $0.02 runs against the wall, and one sees who spent what and who refused.
//!
//! The provider is the simulator, on real TLS in a namespace of its own; the agent is a shell with curl, run by
//! `meter run` with nothing changed. Everything is taken down again at the end.

use meter_tests::harness::{
    Daemon, Lab, LabOptions, Row, Shell,
    chat::{Chat, status},
};

const AGENT: &str = "research";
const BUDGET: &str = "0.02";
/// More calls than the budget can pay for.
const CALLS: usize = 50;

fn main() {
    say("Starting a provider simulator (real TLS, a network namespace of its own) and the meter daemon.");
    let lab = Lab::start(LabOptions::default());
    let agent = lab.agent(AGENT).task("demo").budget(BUDGET);
    say(&format!(
        "meter run --agent {AGENT} --task demo --budget {BUDGET} -- bash    # the agent calls gpt-4o with curl"
    ));
    let mut shell = Shell::open(&agent);
    let refusal = spend(&lab.daemon, &mut shell);

    say("The money is gone: the sidecar answers 402, in the provider's own shape.");
    println!("{}", refusal.trim());
    say("The agent tries again: now the kernel refuses the connection itself (curl's exit code 7).");
    let again = shell.run(&Chat::ordinary().curl());
    println!("{}curl ended with {} after {} ms", again.stdout, again.code, again.took.as_millis());

    say("meter ledger");
    print!("{}", lab.daemon.call("ledger", &["--agent", AGENT]));
    say("meter status");
    print!("{}", lab.daemon.call("status", &[]));
    say(&format!("meter fund {AGENT}/demo 0.01, and the same shell goes on"));
    print!("{}", lab.daemon.call("fund", &[&format!("{AGENT}/demo"), "0.01"]));
    spend(&lab.daemon, &mut shell);
    let code = shell.close();
    println!("(the shell ended with {code})");
    drop(lab);
    say("Stopped and uninstalled: nothing is left attached.");
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

fn describe(row: &Row) -> String {
    let model = row.model.as_deref().unwrap_or("?");
    let (input, output) = (row.usage.input_tokens, row.usage.output_tokens);
    format!(
        "{model}, {input} tokens in, {output} out, ${} ({} by pid {})",
        row.cost_usd, row.process.exe, row.process.pid
    )
}

fn say(text: &str) {
    println!("\n== {text}");
}

//! The simulator by itself, without a meter: the unmodified SDKs and curl must like what it says, or no other test
//! proves anything.

use std::process::Command;

use meter_tests::{
    harness::{
        HostLock, Names, Net, Outcome, SDK_CA_FILES, SDK_KEYS, Simulator, chat::Chat, node_script, python_script, steps,
    },
    simulator::{Config, PROVIDERS, log::End},
};

struct Alone {
    simulator: Simulator,
    names: Names,
    _net: Net,
    _lock: HostLock,
}

impl Alone {
    fn start() -> Self {
        let lock = HostLock::take();
        let net = Net::new();
        let simulator = Simulator::start(&net, Config::default());
        let entries = PROVIDERS.map(|name| (name, net.v4.into()));
        Self { simulator, names: Names::hosts(&entries), _net: net, _lock: lock }
    }

    fn run(&self, words: &[String]) -> Outcome {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("AGENT_CALLS", "2");
        for variable in SDK_CA_FILES.into_iter().chain(["CURL_CA_BUNDLE"]) {
            command.env(variable, self.simulator.ca_file());
        }
        command.envs(SDK_KEYS);
        self.names.enter(&mut command);
        let output = command.output().unwrap();
        Outcome {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
            took: std::time::Duration::ZERO,
        }
    }
}

#[test]
fn the_sdks_understand_every_answer() {
    let alone = Alone::start();
    let scripts = [
        python_script("openai_agent.py"),
        python_script("anthropic_agent.py"),
        python_script("google_agent.py"),
        python_script("bedrock_agent.py"),
        node_script("openai_agent.mjs"),
        node_script("anthropic_agent.mjs"),
    ];
    for script in scripts {
        let outcome = alone.run(&script);
        outcome.expect_code(0);
        let steps = steps(&outcome);
        assert_eq!(steps.last().unwrap().name, "no wall", "{script:?}");
    }
    let exchanges = alone.simulator.exchanges();
    assert!(exchanges.iter().all(|exchange| exchange.end == End::Complete && exchange.status == 200 && exchange.tls));
    assert!(exchanges.iter().all(|exchange| exchange.authorized));
}

#[test]
fn curl_sees_a_cut_as_a_cut() {
    let alone = Alone::start();
    for (version, code) in [("--http1.1", 18), ("--http2", 92)] {
        let line = Chat::ordinary().stream().options(version).with(|directive| directive.cut_after = Some(2)).curl();
        alone.run(&["bash".to_owned(), "-c".to_owned(), line]).expect_code(code);
    }
    assert!(alone.simulator.exchanges().iter().all(|exchange| exchange.end == End::Cut));
}

//! From the TOML text to a checked [`Config`]: one function per key, every mistake collected with its place.
//!
//! Amounts are read from the text of the number, never through a float.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use meter_common::PORTS;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    mistake::{Mistake, suggestion},
};
use crate::{
    cashier::Durability,
    ids::AccountPath,
    money::Pico,
    usage::hosts::{HostEntry, HostTable, Speaks},
};

const KEYS: [&str; 11] = [
    "data_dir",
    "run_dir",
    "upstream_ca_file",
    "durability",
    "listen_ports",
    "unknown_model",
    "plan",
    "host",
    "price",
    "api",
    "agent",
];
const HOST_KEYS: [&str; 4] = ["name", "dialect", "provider", "price"];
const AGENT_KEYS: [&str; 1] = ["budget_usd"];
const DURABILITIES: [(&str, Durability); 3] =
    [("strict", Durability::Strict), ("full", Durability::Full), ("relaxed", Durability::Relaxed)];
/// A socket's path has room for 107 bytes (`sun_path`), of which `/meter.sock` takes 11.
const RUN_DIR_BYTES_MAX: usize = 107 - 11;
/// Ports from here on can be bound by anyone, an agent before the sidecar for one.
const UNPRIVILEGED_PORT: i64 = 1024;

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

pub(super) fn read(text: &str, path: &Path) -> Result<Config, Vec<Mistake>> {
    let (table, faults) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, path, mistakes: Vec::new() };
    for fault in faults {
        let at = fault.span().unwrap_or(text.len()..text.len());
        reader.mistake(&at, format!("{}; correct the TOML there", fault.message()));
    }
    let config = reader.config(table.get_ref());
    if reader.mistakes.is_empty() {
        return Ok(config);
    }
    reader.mistakes.sort_by_key(|m| (m.line, m.column));
    reader.mistakes.dedup();
    Err(reader.mistakes)
}

pub(super) struct Reader<'i> {
    text: &'i str,
    path: &'i Path,
    mistakes: Vec<Mistake>,
}

impl<'i> Reader<'i> {
    pub(super) fn mistake(&mut self, at: &Range<usize>, text: String) {
        self.mistakes.push(Mistake::at(self.path, self.text, at.start, text));
    }

    fn config(&mut self, table: &DeTable<'i>) -> Config {
        let mut config = Config { file: Some(self.path.to_owned()), ..Config::default() };
        self.known_keys(table, &KEYS, "");
        if let Some(dir) = table.get("data_dir").and_then(|v| self.directory("data_dir", v)) {
            config.data_dir = dir;
        }
        if let Some(dir) = table.get("run_dir").and_then(|v| self.run_dir(v)) {
            config.run_dir = dir;
        }
        if let Some((at, _)) = table.get("run_dir").map(|v| (v.span(), v)).filter(|_| config.run_dir == config.data_dir)
        {
            self.mistake(&at, "`run_dir` is the same as `data_dir`; give each a directory of its own".to_owned());
        }
        config.upstream_ca_file =
            table.get("upstream_ca_file").and_then(|v| self.absolute("upstream_ca_file", "file", v));
        if let Some(level) = table.get("durability").and_then(|v| self.durability(v)) {
            config.durability = level;
        }
        if let Some(ports) = table.get("listen_ports").and_then(|v| self.ports(v)) {
            config.listen_ports = ports;
        }
        if let Some(hosts) = table.get("host") {
            config.hosts = self.hosts(hosts);
        }
        config.prices = self.prices(table);
        if let Some(apis) = table.get("api") {
            self.apis(apis, &mut config);
        }
        if let Some(agents) = table.get("agent") {
            config.agents = self.agents(agents);
        }
        config
    }

    pub(super) fn known_keys(&mut self, table: &DeTable<'i>, known: &[&str], place: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            self.mistake(&key.span(), format!("there is no key `{name}`{place}; {}", suggestion(name, known)));
        }
    }

    pub(super) fn string<'v>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let found = value.get_ref().type_str();
            self.mistake(&value.span(), format!("`{key}` is of type {found}; write it as a string in quotes"));
        }
        text
    }

    fn absolute(&mut self, key: &str, what: &str, value: &Value<'i>) -> Option<PathBuf> {
        let path = PathBuf::from(self.string(key, value)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.mistake(
            &value.span(),
            format!("`{key}` is not an absolute path; write the {what}'s whole path, starting with `/`"),
        );
        None
    }

    fn directory(&mut self, key: &str, value: &Value<'i>) -> Option<PathBuf> {
        let path = self.absolute(key, "directory", value)?;
        if path.parent().is_some() {
            return Some(path);
        }
        self.mistake(&value.span(), format!("`{key}` is the root directory; give meter a directory of its own"));
        None
    }

    fn run_dir(&mut self, value: &Value<'i>) -> Option<PathBuf> {
        let path = self.directory("run_dir", value)?;
        if path.as_os_str().len() <= RUN_DIR_BYTES_MAX {
            return Some(path);
        }
        self.mistake(
            &value.span(),
            format!(
                "`run_dir` is too long for the path of a socket; use one of at most {RUN_DIR_BYTES_MAX} characters"
            ),
        );
        None
    }

    fn durability(&mut self, value: &Value<'i>) -> Option<Durability> {
        let word = self.string("durability", value)?;
        let known = DURABILITIES.map(|(name, _)| name);
        let level = DURABILITIES.iter().find(|(name, _)| *name == word).map(|(_, level)| *level);
        if level.is_none() {
            self.mistake(&value.span(), format!("`{word}` is not a durability; {}", suggestion(word, &known)));
        }
        level
    }

    fn ports(&mut self, value: &Value<'i>) -> Option<[u16; PORTS]> {
        let Some(entries) = value.get_ref().as_array() else {
            self.mistake(&value.span(), format!("`listen_ports` is not a list; write it like {}", example_ports()));
            return None;
        };
        let mut ports = Vec::with_capacity(PORTS);
        for entry in entries {
            match entry.get_ref().as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok()) {
                Some(port) if !(1..UNPRIVILEGED_PORT).contains(&port) => self.mistake(
                    &entry.span(),
                    format!("port {port} can't be used; choose one from 1 to 1023, which an agent can't bind first"),
                ),
                Some(port) if ports.contains(&port) => {
                    self.mistake(&entry.span(), format!("port {port} is there twice; name {PORTS} different ones"));
                }
                Some(port) => ports.push(port),
                None => self.mistake(&entry.span(), "not a port; write a whole number from 1 to 1023".to_owned()),
            }
        }
        if entries.len() != PORTS {
            let count = entries.len();
            self.mistake(
                &value.span(),
                format!("`listen_ports` has {count} entries; name exactly {PORTS}, like {}", example_ports()),
            );
        }
        let ports: Vec<u16> = ports.into_iter().filter_map(|p| u16::try_from(p).ok()).collect();
        ports.try_into().ok()
    }

    fn hosts(&mut self, value: &Value<'i>) -> Vec<HostEntry> {
        let Some(entries) = value.get_ref().as_array() else {
            self.mistake(&value.span(), "`host` is not a list; write each one below a line `[[host]]`".to_owned());
            return Vec::new();
        };
        let mut hosts: Vec<HostEntry> = Vec::new();
        for entry in entries {
            let Some((host, at)) = self.host(entry) else { continue };
            if hosts.iter().any(|h| h.name == host.name) {
                self.mistake(&at, format!("the host `{}` is there twice; keep one of the two", host.name));
            } else {
                hosts.push(host);
            }
        }
        hosts
    }

    fn host(&mut self, entry: &Value<'i>) -> Option<(HostEntry, Range<usize>)> {
        let Some(table) = entry.get_ref().as_table() else {
            self.mistake(&entry.span(), "not a host; write `name` and `dialect` below a line `[[host]]`".to_owned());
            return None;
        };
        self.known_keys(table, &HOST_KEYS, " in `[[host]]`");
        if !table.contains_key("name") {
            self.mistake(&entry.span(), "this `[[host]]` has no `name`; add it".to_owned());
        }
        let name = table.get("name").and_then(|v| self.string("name", v));
        let free = table.get("price").is_some_and(|v| self.free(v));
        let speaks = self.speaks(entry, table);
        let (name, speaks) = (name?.to_ascii_lowercase(), speaks?);
        let at = table.get("name")?.span();
        let host = HostEntry { name, speaks, free };
        match HostTable::new(std::slice::from_ref(&host)) {
            Ok(_) => Some((host, at)),
            Err(error) => {
                self.mistake(&at, error.to_string());
                None
            }
        }
    }

    /// Exactly one of `dialect` and `provider`.
    fn speaks(&mut self, entry: &Value<'i>, table: &DeTable<'i>) -> Option<Speaks> {
        match (table.get("dialect"), table.get("provider")) {
            (Some(value), None) => self.dialect(value).map(Speaks::Dialect),
            (None, Some(value)) => self.provider(value).map(Speaks::Provider),
            (Some(_), Some(second)) => {
                let text = "`dialect` and `provider` stand in one `[[host]]`; keep one of the two";
                self.mistake(&second.span(), text.to_owned());
                None
            }
            (None, None) => {
                let text = "this `[[host]]` has no `dialect` and no `provider`; add one of them";
                self.mistake(&entry.span(), text.to_owned());
                None
            }
        }
    }

    fn free(&mut self, value: &Value<'i>) -> bool {
        let word = self.string("price", value);
        if word.is_some_and(|word| word != "free") {
            let text = "`price` of a host can only be \"free\"; write other prices below a line `[[price]]`";
            self.mistake(&value.span(), text.to_owned());
        }
        word == Some("free")
    }

    fn provider(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("provider", value)?;
        let known: Vec<&str> = crate::usage::providers::PROVIDERS.iter().map(|p| p.id).collect();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no provider `{word}`; {}", suggestion(word, &known)));
        None
    }

    fn dialect(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("dialect", value)?;
        let known: Vec<&str> = crate::usage::DIALECTS.iter().map(|d| d.name()).collect();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no dialect `{word}`; {}", suggestion(word, &known)));
        None
    }

    fn agents(&mut self, value: &Value<'i>) -> Vec<(AccountPath, Option<Pico>)> {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), "`agent` is not a table; write each one below `[agent.NAME]`".to_owned());
            return Vec::new();
        };
        let mut agents = Vec::with_capacity(table.len());
        for (name, agent) in table {
            let path = AccountPath::of_agent(name.get_ref());
            if let Err(error) = &path {
                self.mistake(&name.span(), error.to_string());
            }
            let budget = self.agent(name.get_ref(), agent);
            if let Ok(path) = path {
                agents.push((path, budget));
            }
        }
        agents
    }

    fn agent(&mut self, name: &str, agent: &Value<'i>) -> Option<Pico> {
        let Some(table) = agent.get_ref().as_table() else {
            self.mistake(
                &agent.span(),
                format!("`agent.{name}` is not a table; write `budget_usd` below `[agent.{name}]`"),
            );
            return None;
        };
        self.known_keys(table, &AGENT_KEYS, &format!(" in `[agent.{name}]`"));
        self.amount("budget_usd", table.get("budget_usd")?)
    }

    pub(super) fn amount(&mut self, key: &str, value: &Value<'i>) -> Option<Pico> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.mistake(&value.span(), format!("`{key}` is not an amount of dollars; write it like \"0.50\""));
                return None;
            }
        };
        text.parse().map_err(|error| self.mistake(&value.span(), format!("`{key}`: {error}"))).ok()
    }
}

fn example_ports() -> String {
    format!("{:?}", super::DEFAULT_PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        read(text, Path::new("m.toml")).unwrap_err().iter().map(ToString::to_string).collect()
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
        let config = read(text, Path::new("m.toml")).unwrap();
        assert_eq!(config.data_dir, Path::new("/srv/meter"));
        assert_eq!(config.socket(), Path::new("/run/m/meter.sock"));
        assert_eq!(config.durability, Durability::Strict);
        assert_eq!(config.listen_ports, [901, 902, 903, 904]);
        assert_eq!(config.hosts, [HostEntry::new("llm.example.com", "openai")]);
        let budgets: Vec<_> = config.agents.iter().map(|(a, b)| (a.as_str(), b.map(Pico::get))).collect();
        let expected = [("free", None), ("nightly", Some(1_100_000_000_000)), ("research", Some(500_000_000_000))];
        assert_eq!(budgets, expected);
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
            "m.toml:3:14: `ful` is not a durability; did you mean `full`?",
            "m.toml:4:16: `listen_ports` has 3 entries; name exactly 4, like [961, 963, 967, 971]",
            "m.toml:4:22: port 8443 can't be used; choose one from 1 to 1023, which an agent can't bind first",
            "m.toml:4:28: port 961 is there twice; name 4 different ones",
            "m.toml:7:11: there is no dialect `opnai`; did you mean `openai`?",
            "m.toml:8:1: this `[[host]]` has no `dialect` and no `provider`; add one of them",
            "m.toml:8:1: this `[[host]]` has no `name`; add it",
            "m.toml:9:1: there is no key `dialekt` in `[[host]]`; did you mean `dialect`?",
            "m.toml:11:14: `budget_usd`: `9000000.01` is above the largest amount, $9000000",
            "m.toml:12:8: `host` is the name of the whole host's account; choose another",
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
    fn broken_toml_is_reported_beside_the_other_mistakes() {
        let found = mistakes("run_dir = \ndurability = \"none\"\n");
        assert!(found[0].starts_with("m.toml:1:"), "{found:?}");
        assert!(found.iter().any(|m| m.contains("`none` is not a durability")), "{found:?}");
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
        let config = read("[agent.a]\nbudget_usd = 0.123456789012\n", Path::new("m")).unwrap();
        assert_eq!(config.agents[0].1, Some(Pico::new(123_456_789_012)));
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
}

//! From the TOML text to a checked [`Config`]: every mistake is collected with its place.

use std::{ops::Range, path::Path, time::Duration};

use toml::de::DeTable;

use super::{
    Config,
    mistake::{Mistake, suggestion},
    policy::POLICY_KEYS,
    values::Value,
};

/// Keys that stand at the top and nowhere else.
pub(super) const KEYS: [&str; 13] = [
    "data_dir",
    "run_dir",
    "upstream_ca_file",
    "durability",
    "listen_ports",
    "unknown_model",
    "plan",
    "time_zone",
    "ledger",
    "host",
    "price",
    "api",
    "agent",
];
const LEDGER_KEYS: [&str; 1] = ["keep"];
/// The longest window and the longest look back are a month; what they count is never rolled up.
const KEEP_MIN: Duration = Duration::from_hours(32 * 24);

/// What can be read of the file, and every mistake in it.
pub(super) fn read(text: &str, path: &Path) -> (Config, Vec<Mistake>) {
    let (table, faults) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, path, mistakes: Vec::new() };
    for fault in faults {
        let at = fault.span().unwrap_or(text.len()..text.len());
        reader.mistake(&at, format!("{}; correct the TOML there", fault.message()));
    }
    let broken: Vec<usize> = reader.mistakes.iter().map(|mistake| mistake.line).collect();
    let config = reader.config(table.get_ref());
    // What is left of a line that is no TOML says nothing more about it.
    let (faults, rest) = reader.mistakes.split_at(broken.len());
    let rest = rest.iter().filter(|mistake| !broken.contains(&mistake.line));
    reader.mistakes = faults.iter().chain(rest).cloned().collect();
    reader.mistakes.sort_by_key(|m| (m.line, m.column));
    reader.mistakes.dedup();
    (config, reader.mistakes)
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

    pub(super) fn known_keys(&mut self, table: &DeTable<'i>, known: &[&str], place: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            self.mistake(&key.span(), format!("there is no key `{name}`{place}; {}", suggestion(name, known)));
        }
    }

    fn config(&mut self, table: &DeTable<'i>) -> Config {
        let mut config = Config { file: Some(self.path.to_owned()), ..Config::default() };
        let known: Vec<&str> = KEYS.into_iter().chain(POLICY_KEYS).collect();
        self.known_keys(table, &known, "");
        self.machine(table, &mut config);
        if let Some(hosts) = table.get("host") {
            config.hosts = self.hosts(hosts);
        }
        config.prices = self.prices(table);
        if let Some(apis) = table.get("api") {
            self.apis(apis, &mut config);
        }
        if let Some(keep) = table.get("ledger").and_then(|v| self.keep(v)) {
            config.ledger_keep = keep;
        }
        config.accounts = self.accounts(table);
        config
    }

    fn keep(&mut self, value: &Value<'i>) -> Option<Duration> {
        let ledger = self.table("ledger", value, "keep = \"400d\" below `[ledger]`")?;
        self.known_keys(ledger, &LEDGER_KEYS, " in `[ledger]`");
        let value = ledger.get("keep")?;
        let keep = self.duration("keep", value)?;
        if keep >= KEEP_MIN {
            return Some(keep);
        }
        let text = "`keep` is shorter than a month's limit looks back; write \"32d\" or more";
        self.mistake(&value.span(), text.to_owned());
        None
    }
}

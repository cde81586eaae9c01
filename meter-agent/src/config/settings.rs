//! The daemon's own keys as `meter config show` and `meter config diff` have them, the accounts' aside.

use serde_json::{Map, Value, json};

use super::{
    Config,
    machine::DURABILITIES,
    prices::{PLANS, UNKNOWN_MODELS},
};
use crate::{
    duration,
    pricing::{PriceOverride, TokenRates},
    usage::{
        hosts::{HostEntry, Speaks},
        paid::Api,
    },
};

/// Keys that a running daemon can't change.
pub const AT_START: [&str; 5] = ["data_dir", "run_dir", "upstream_ca_file", "durability", "listen_ports"];

impl Config {
    /// By the names of the keys; a `[[host]]`, `[[price]]` or `[[api]]` is a key with its name behind it.
    pub fn settings(&self) -> Map<String, Value> {
        let mut keys = Map::new();
        let mut set = |key: String, value: Value| drop(keys.insert(key, value));
        set("data_dir".to_owned(), json!(self.data_dir));
        set("run_dir".to_owned(), json!(self.run_dir));
        set("upstream_ca_file".to_owned(), json!(self.upstream_ca_file));
        set("durability".to_owned(), json!(word(&DURABILITIES, &self.durability)));
        set("listen_ports".to_owned(), json!(self.listen_ports));
        set("time_zone".to_owned(), json!(self.accounts.zone.iana_name().unwrap_or("UTC")));
        set("ledger.keep".to_owned(), json!(duration::text(self.ledger_keep)));
        set("unknown_model".to_owned(), json!(word(&UNKNOWN_MODELS, &self.prices.unknown_model)));
        set("plan".to_owned(), json!(word(&PLANS, &self.prices.plan)));
        for host in &self.hosts {
            if let Some(text) = of_host(host) {
                set(format!("host {}", host.name), json!(text));
            }
        }
        for (n, price) in self.prices.overrides.iter().enumerate() {
            // The first that fits wins, so that its place is a part of it.
            let provider = price.provider.as_deref().unwrap_or("*");
            set(format!("price {} {provider} {}", n + 1, price.model), json!(of_price(price)));
        }
        for api in &self.prices.apis {
            set(format!("api {}", api.id), json!(of_api(api)));
        }
        keys
    }

    /// This config with everything that a running daemon keeps in the place of what this one says.
    #[must_use]
    pub fn while_running(&self, running: &Self) -> Self {
        Self {
            data_dir: running.data_dir.clone(),
            run_dir: running.run_dir.clone(),
            upstream_ca_file: running.upstream_ca_file.clone(),
            durability: running.durability,
            listen_ports: running.listen_ports,
            ..self.clone()
        }
    }
}

fn word<T: PartialEq>(known: &[(&'static str, T)], value: &T) -> &'static str {
    known.iter().find(|(_, meaning)| meaning == value).map_or("", |(name, _)| *name)
}

/// `None` for the host of an API, which is told as that.
fn of_host(host: &HostEntry) -> Option<String> {
    let speaks = match &host.speaks {
        Speaks::Dialect(name) => format!("dialect {name}"),
        Speaks::Provider(id) => format!("provider {id}"),
        Speaks::Api(_) => return None,
    };
    Some(if host.free { format!("{speaks}, free") } else { speaks })
}

fn of_price(price: &PriceOverride) -> String {
    let mut parts = Vec::new();
    if let Some(tokens) = &price.card.tokens {
        parts.extend(of_tokens(tokens));
    }
    if price.card.request.is_positive() {
        parts.push(format!("request {}", price.card.request));
    }
    parts.extend(price.card.per_unit.iter().map(|(unit, usd)| format!("{unit} {usd}")));
    parts.extend(price.card.maximum_output.map(|most| format!("max_output_tokens {most}")));
    parts.extend(price.from.map(|from| format!("from {}", from.rfc3339())));
    parts.extend(price.until.map(|until| format!("until {}", until.rfc3339())));
    parts.join(", ")
}

fn of_tokens(tokens: &TokenRates) -> Vec<String> {
    let rates = [
        ("input_mtok", Some(tokens.input)),
        ("output_mtok", Some(tokens.output)),
        ("cache_read_mtok", tokens.cache_read),
        ("cache_write_mtok", tokens.cache_write),
        ("cache_write_1h_mtok", tokens.cache_write_1h),
        ("input_audio_mtok", tokens.input_audio),
        ("output_audio_mtok", tokens.output_audio),
        ("output_image_mtok", tokens.output_image),
    ];
    rates.into_iter().filter_map(|(key, usd)| Some(format!("{key} {}", usd?))).collect()
}

fn of_api(api: &Api) -> String {
    let calls = api.calls.iter().map(|call| {
        let pointer = call.pointers.first().map(|pointer| format!(" at {pointer}")).unwrap_or_default();
        format!("{} {} per {}{pointer}, {} at most", call.path, call.price, call.unit, call.most)
    });
    format!("{}: {}", api.category, calls.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("m.toml")).unwrap()
    }

    #[test]
    fn every_setting_can_be_told_from_another() {
        let empty = config("").settings();
        for text in [
            "data_dir = \"/d\"",
            "run_dir = \"/r\"",
            "upstream_ca_file = \"/c\"",
            "durability = \"strict\"",
            "listen_ports = [1, 2, 3, 4]",
            "time_zone = \"Europe/Berlin\"",
            "ledger = { keep = \"60d\" }",
            "unknown_model = \"refuse\"",
            "plan = \"count\"",
            "[[host]]\nname = \"a.example\"\ndialect = \"openai\"",
            "[[price]]\nmodel = \"a\"\nrequest = 1",
            "[[api]]\nhost = \"a.example\"\ncategory = \"x\"\nprice_usd = 1",
        ] {
            assert_ne!(config(text).settings(), empty, "{text}");
        }
        let price = config("[[price]]\nmodel = \"a\"\ninput_mtok = 1\noutput_mtok = \"0.5\"\nuntil = \"2026-12-01\"");
        let told = &price.settings()["price 1 * a"];
        assert_eq!(told, "input_mtok 1, output_mtok 0.5, until 2026-12-01T00:00:00.000Z");
    }

    #[test]
    fn what_needs_a_restart_stays_while_the_daemon_runs() {
        let text = "data_dir = \"/d\"\nrun_dir = \"/r\"\nupstream_ca_file = \"/c\"\ndurability = \"strict\"\nlisten_ports = [1, 2, 3, 4]\n";
        let (running, file) = (config(""), config(&format!("{text}plan = \"count\"\n")));
        let live = file.while_running(&running).settings();
        let differs = |a: &Map<String, Value>| -> Vec<String> {
            let base = running.settings();
            a.iter().filter(|(key, value)| base.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect()
        };
        assert_eq!(differs(&live), ["plan"]);
        let mut all = differs(&file.settings());
        all.retain(|key| key != "plan");
        assert_eq!(all, AT_START);
    }
}

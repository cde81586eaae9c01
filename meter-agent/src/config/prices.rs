//! Prices: `[[price]]`, `unknown_model` and `plan`.
//!
//! Prices are read from the text of the number, never through a float.

use toml::de::DeTable;

use super::{mistake::suggestion, read::Reader, values::Value};
use crate::{
    money::Pico,
    pricing::{PlanMode, PriceOverride, Settings, TokenRates, UnknownModel},
    usage::providers::PROVIDERS,
};

const PRICE_KEYS: [&str; 15] = [
    "provider",
    "model",
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "request",
    "per_unit",
    "from",
    "until",
    "max_output_tokens",
];
pub(super) const UNKNOWN_MODELS: [(&str, UnknownModel); 2] =
    [("dearest", UnknownModel::Dearest), ("refuse", UnknownModel::Refuse)];
pub(super) const PLANS: [(&str, PlanMode); 2] = [("free", PlanMode::Free), ("count", PlanMode::Count)];

impl<'i> Reader<'i> {
    pub(super) fn prices(&mut self, table: &DeTable<'i>) -> Settings {
        let unknown_model = table.get("unknown_model").and_then(|v| self.word("unknown_model", v, &UNKNOWN_MODELS));
        let plan = table.get("plan").and_then(|v| self.word("plan", v, &PLANS));
        let overrides = table.get("price").map(|v| self.list("price", v, Self::price)).unwrap_or_default();
        Settings {
            overrides,
            unknown_model: unknown_model.unwrap_or_default(),
            plan: plan.unwrap_or_default(),
            apis: Vec::new(),
        }
    }

    fn price(&mut self, entry: &Value<'i>, table: &DeTable<'i>) -> Option<PriceOverride> {
        self.known_keys(table, &PRICE_KEYS, " in `[[price]]`");
        let provider = match table.get("provider") {
            Some(value) => Some(self.seller(value)?),
            None => None,
        };
        let Some(model) = table.get("model") else {
            self.mistake(&entry.span(), "this `[[price]]` has no `model`; add it, or \"*\" for all".to_owned());
            return None;
        };
        let model = self.string("model", model)?.to_owned();
        let mut amount = |key: &str| table.get(key).map(|v| self.amount(key, v));
        let (input, output) = (amount("input_mtok"), amount("output_mtok"));
        let rates = [
            "cache_read_mtok",
            "cache_write_mtok",
            "cache_write_1h_mtok",
            "input_audio_mtok",
            "output_audio_mtok",
            "output_image_mtok",
        ]
        .map(|key| amount(key).flatten());
        let request = amount("request").flatten();
        if input.is_some() != output.is_some() {
            let text =
                "this `[[price]]` has only one of `input_mtok` and `output_mtok`; add the other, if only as \"0\"";
            self.mistake(&entry.span(), text.to_owned());
            return None;
        }
        if input.is_none() && request.is_none() && !table.contains_key("per_unit") {
            let text = "this `[[price]]` has no price; add `input_mtok` and `output_mtok`, `request` or `per_unit`";
            self.mistake(&entry.span(), text.to_owned());
            return None;
        }
        let [cache_read, cache_write, cache_write_1h, input_audio, output_audio, output_image] = rates;
        let tokens = TokenRates {
            input: input.flatten().unwrap_or_default(),
            output: output.flatten().unwrap_or_default(),
            cache_read,
            cache_write,
            cache_write_1h,
            input_audio,
            output_audio,
            output_image,
        };
        let mut price = PriceOverride { provider, model, ..PriceOverride::default() };
        // A price per unit alone leaves the tokens to the lists; one per request is all that the request costs.
        price.card.tokens = (input.is_some() || request.is_some()).then_some(tokens);
        price.card.request = request.unwrap_or_default();
        price.card.maximum_output = table.get("max_output_tokens").and_then(|v| self.count("max_output_tokens", v));
        if let Some(units) = table.get("per_unit") {
            price.card.per_unit = self.per_unit(units)?;
        }
        price.from = table.get("from").and_then(|v| self.day("from", v));
        price.until = table.get("until").and_then(|v| self.day("until", v));
        Some(price)
    }

    /// `{ images = "0.04" }`.
    fn per_unit(&mut self, value: &Value<'i>) -> Option<std::collections::BTreeMap<String, Pico>> {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), "`per_unit` is not a table; write it like { images = \"0.04\" }".to_owned());
            return None;
        };
        let units =
            table.iter().filter_map(|(name, v)| Some((name.get_ref().to_string(), self.amount("per_unit", v)?)));
        Some(units.collect())
    }

    /// A provider by its id, as in the ledger or in the catalogue.
    fn seller(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("provider", value)?;
        let catalogue = genai_prices::Calculator::bundled().providers().map(genai_prices::ProviderInfo::id);
        let mut known: Vec<&str> = PROVIDERS.iter().flat_map(|p| [p.id, p.price_provider]).chain(catalogue).collect();
        known.sort_unstable();
        known.dedup();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no provider `{word}`; {}", suggestion(word, &known)));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{Config, ConfigError},
        usage::hosts::HostTable,
    };

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("m.toml")).unwrap()
    }

    fn mistakes(text: &str) -> Vec<String> {
        let Err(ConfigError::Mistakes(all)) = Config::parse(text, Path::new("m.toml")) else { panic!("no mistakes") };
        all.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn prices_are_read_to_the_last_decimal() {
        let got = config(
            r#"
            unknown_model = "refuse"
            plan = "count"
            [[price]]
            provider = "vertex"
            model = "gemini-*"
            input_mtok = "0.123456789012"
            output_mtok = 10
            cache_read_mtok = "0"
            per_unit = { images = "0.04" }
            from = "2026-01-01"
            until = 2026-02-01
            [[price]]
            model = "*"
            request = "0.005"
            "#,
        );
        let prices = got.prices;
        assert_eq!((prices.unknown_model, prices.plan), (UnknownModel::Refuse, PlanMode::Count));
        let first = &prices.overrides[0];
        assert_eq!(first.card.tokens.unwrap().input, Pico::new(123_456_789_012));
        assert_eq!(first.card.tokens.unwrap().cache_read, Some(Pico::ZERO));
        assert_eq!(first.card.per_unit["images"].to_string(), "0.04");
        assert_eq!(first.from.unwrap().rfc3339().get(..10), Some("2026-01-01"));
        assert_eq!(first.until.unwrap().rfc3339().get(..10), Some("2026-02-01"));
        assert_eq!(prices.overrides[1].card.request.to_string(), "0.005");
    }

    #[test]
    fn a_local_host_is_named_by_its_provider_and_free() {
        let got = config(
            "[[host]]\nname = \"gpu.example:8000\"\nprovider = \"vllm\"\n[[host]]\nname = \"b.example\"\ndialect = \"openai\"\nprice = \"free\"\n",
        );
        let table = HostTable::new(&got.hosts).unwrap();
        let vllm = table.find("gpu.example", 8000).unwrap();
        assert_eq!((vllm.provider_id, vllm.price_provider), ("vllm", crate::usage::hosts::LOCAL));
        assert_eq!(table.find("b.example", 443).unwrap().price_provider, crate::usage::hosts::LOCAL);
    }

    #[test]
    fn every_mistake_about_money_names_its_fix() {
        for (text, why) in [
            ("plan = \"fre\"", "`plan` can't be `fre`; did you mean `free`?"),
            ("unknown_model = 1", "write it as a string"),
            ("[[price]]\nrequest = 1", "has no `model`"),
            ("[[price]]\nmodel = \"a\"", "has no price"),
            ("[[price]]\nmodel = \"a\"\ninput_mtok = 1", "only one of"),
            ("[[price]]\nmodel = \"a\"\nrequest = -1", "not an amount"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nprovider = \"opnai\"", "did you mean `openai`?"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nfrom = \"soon\"", "`from` is not a day"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nfee = 1", "there is no key `fee`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"x\"", "has no `price_usd`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"X Y\"\nprice_usd = 1", "not a category"),
            ("[[api]]\nhost = \"a b\"\ncategory = \"x\"\nprice_usd = 1", "[[api]] `a b`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"x\"\nprice_usd = 1\npointer = \"u\"", "not a JSON pointer"),
            ("[[host]]\nname = \"a.example\"\ndialect = \"openai\"\nprovider = \"vllm\"", "keep one of the two"),
            ("[[host]]\nname = \"a.example\"\nprovider = \"vlm\"", "did you mean `vllm`?"),
            ("[[host]]\nname = \"a.example\"\nprovider = \"vllm\"\nprice = \"0\"", "can only be \"free\""),
        ] {
            let found = mistakes(text);
            assert!(found.iter().any(|m| m.contains(why)), "{text}: {found:?}");
        }
    }
}

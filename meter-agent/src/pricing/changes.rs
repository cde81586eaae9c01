//! What an import changes: models that come, go, or cost something else.

use std::collections::BTreeMap;

use genai_prices::Calculator;
use serde::Serialize;

use super::{
    PriceFile, Prices,
    catalogue::{Selector, price, units},
    round,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Line, Usage},
};

/// Dollars per million tokens of input and of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub input: Pico,
    pub output: Pico,
}

/// One model whose price is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub provider: String,
    pub model: String,
    /// `None`: it is new.
    pub old: Option<Pair>,
    /// `None`: it is gone.
    pub new: Option<Pair>,
}

/// All of them, by provider and model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    pub all: Vec<Change>,
}

type Models = BTreeMap<(String, String), Pair>;

impl Prices {
    /// What taking a file into use would change at that time.
    pub fn changes(&self, file: &PriceFile, at: Timestamp) -> Changes {
        let book = self.book();
        match file {
            PriceFile::Catalogue(new) => compare(of_catalogue(book.catalogue(), at), of_catalogue(new, at)),
            PriceFile::LiteLlm(new) => {
                let list = |list: &super::litellm::LiteLlm| -> Models {
                    let entry = |(provider, model, input, output): (&str, &str, Pico, Pico)| {
                        ((provider.to_owned(), model.to_owned()), Pair { input, output })
                    };
                    list.prices().map(entry).collect()
                };
                compare(book.litellm().map(list).unwrap_or_default(), list(new))
            }
        }
    }
}

fn of_catalogue(from: &Calculator, at: Timestamp) -> Models {
    let mut models = Models::new();
    for provider in from.providers() {
        for model in provider.models() {
            let selector = Selector { from, provider: provider.id(), model: model.id(), tier: None, batch: false, at };
            models.insert((provider.id().to_owned(), model.id().to_owned()), pair(selector));
        }
    }
    models
}

/// Of a small request, so that no long input's tier is in it.
fn pair(selector: Selector<'_>) -> Pair {
    let usage = Usage { input_tokens: 1_000, input_uncached: 1_000, output_tokens: 1_000, ..Usage::default() };
    let found = price(selector, &units(&Line::default(), &usage));
    let million = |dollars: f64| round::per_million(dollars, 1_000).unwrap_or(Pico::ZERO);
    found.map_or(Pair { input: Pico::ZERO, output: Pico::ZERO }, |found| Pair {
        input: million(found.dollars.input),
        output: million(found.dollars.output),
    })
}

fn compare(old: Models, mut new: Models) -> Changes {
    let mut changes = Changes::default();
    for (key, before) in old {
        match new.remove(&key) {
            Some(after) if after == before => {}
            after => changes.add(key, Some(before), after),
        }
    }
    for (key, after) in new {
        changes.add(key, None, Some(after));
    }
    changes.all.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    changes
}

impl Changes {
    fn add(&mut self, (provider, model): (String, String), old: Option<Pair>, new: Option<Pair>) {
        match (&old, &new) {
            (None, _) => self.added += 1,
            (_, None) => self.removed += 1,
            (Some(_), Some(_)) => self.changed += 1,
        }
        self.all.push(Change { provider, model, old, new });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_goes_and_changes_is_told_apart() {
        let of = |all: &[(&str, i64)]| -> Models {
            let entry = |(model, price): &(&str, i64)| {
                (("p".to_owned(), (*model).to_owned()), Pair { input: Pico::new(*price), output: Pico::ZERO })
            };
            all.iter().map(entry).collect()
        };
        let changes =
            compare(of(&[("same", 1), ("gone", 1), ("dearer", 1)]), of(&[("same", 1), ("dearer", 2), ("new", 1)]));
        assert_eq!((changes.added, changes.removed, changes.changed), (1, 1, 1));
        let models: Vec<&str> = changes.all.iter().map(|c| c.model.as_str()).collect();
        assert_eq!(models, ["dearer", "gone", "new"]);
    }
}

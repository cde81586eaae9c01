//! Price files that a user imports: which kind one is, and whether it can be believed.
//!
//! Bytes in, checked price lists out; where the files lie is others' business.

use genai_prices::Calculator;

use super::litellm::LiteLlm;

/// Both kinds are a few megabytes.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A catalogue without these is none: every other model's price would silently become a guess.
const EXPECTED: [&str; 3] = ["openai", "anthropic", "google"];

/// Fewest models that a whole catalogue has.
const MODELS_MIN: usize = 100;

/// Price lists that go before or beside the embedded ones.
#[derive(Debug, Default)]
pub struct Imported {
    /// Instead of the embedded catalogue.
    pub(super) catalogue: Option<Calculator>,
    /// For what the catalogue lacks.
    pub(super) litellm: Option<LiteLlm>,
}

impl Imported {
    /// Adds a file; one of its kind that is there already is replaced.
    pub fn add(&mut self, file: PriceFile) {
        match file {
            PriceFile::Catalogue(catalogue) => self.catalogue = Some(catalogue),
            PriceFile::LiteLlm(list) => self.litellm = Some(list),
        }
    }
}

/// A price file, read and checked.
#[derive(Debug)]
pub enum PriceFile {
    /// `data.json` of genai-prices, version 2.
    Catalogue(Calculator),
    /// `model_prices_and_context_window.json` of LiteLLM.
    LiteLlm(LiteLlm),
}

/// Why a price file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrices {
    #[error("it is larger than {} MiB, which no price list is", FILE_BYTES_MAX >> 20)]
    TooLarge,
    #[error(
        "it is neither the data.json of genai-prices (a list of providers) nor LiteLLM's model prices (an object of models); download one of them"
    )]
    NeitherKind,
    #[error("its prices can't be used: {0}")]
    Catalogue(String),
    #[error("it has {0} models and a whole catalogue has at least {MODELS_MIN}; download it again")]
    Few(usize),
    #[error("it has no prices of {0}, which a whole catalogue has; download it again")]
    Missing(&'static str),
    #[error("the price `{key}` of {model} is {value}, which is no price")]
    BadNumber { model: String, key: String, value: String },
}

impl PriceFile {
    /// The kinds, by the name that their file is kept under.
    pub const NAMES: [&'static str; 2] = ["catalogue.json", "litellm.json"];

    /// Reads and checks a file.
    pub fn read(bytes: &[u8]) -> Result<Self, BadPrices> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(BadPrices::TooLarge);
        }
        match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'[') => catalogue(bytes).map(Self::Catalogue),
            Some(b'{') => LiteLlm::read(bytes).map(Self::LiteLlm),
            Some(_) | None => Err(BadPrices::NeitherKind),
        }
    }

    /// The name that its file is kept under.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Catalogue(_) => Self::NAMES[0],
            Self::LiteLlm(_) => Self::NAMES[1],
        }
    }

    /// Models with prices.
    pub fn models(&self) -> usize {
        match self {
            Self::Catalogue(catalogue) => catalogue.providers().map(|p| p.models().count()).sum(),
            Self::LiteLlm(list) => list.len(),
        }
    }
}

fn catalogue(bytes: &[u8]) -> Result<Calculator, BadPrices> {
    let catalogue = Calculator::from_json(bytes).map_err(|error| BadPrices::Catalogue(error.to_string()))?;
    if let Some(missing) = EXPECTED.into_iter().find(|id| !catalogue.providers().any(|p| p.id() == *id)) {
        return Err(BadPrices::Missing(missing));
    }
    let models = catalogue.providers().map(|p| p.models().count()).sum();
    if models < MODELS_MIN {
        return Err(BadPrices::Few(models));
    }
    Ok(catalogue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_price_list_says_why() {
        for (bytes, why) in [
            ("", "neither"),
            ("hello", "neither"),
            ("{}", "neither"),
            ("{\"a\":1}", "neither"),
            ("[]", "no prices of openai"),
            ("[{\"id\":1}]", "can't be used"),
            ("[", "can't be used"),
        ] {
            let error = PriceFile::read(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{bytes}: {error}");
        }
    }
}

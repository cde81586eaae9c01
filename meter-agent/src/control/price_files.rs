//! Imported price files: where they lie, how they are replaced.
//!
//! A file is written whole beside the old one and takes its name at once, so that nobody ever reads half of it.
//! Fail-closed: a file that can't be used is an error of whoever starts or reloads, never silently left out.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    pricing::{BadPrices, Imported, PriceFile, Seller},
    usage::providers::provider,
};

/// Readable by its owner alone, as everything in the data directory.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a price file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PriceFileError {
    #[error("the price file {path} can't be used: {source}; import another, or delete it")]
    Bad { path: PathBuf, source: BadPrices },
    #[error("the price file {path} can't be read ({source})")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the price file {path} can't be written ({source}); use sudo")]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Every imported file of the directory; none where there is no directory.
pub fn load(dir: &Path) -> Result<Imported, PriceFileError> {
    let mut imported = Imported::default();
    for name in PriceFile::NAMES {
        let path = dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => match PriceFile::read(&bytes) {
                Ok(file) => imported.add(file),
                Err(source) => return Err(PriceFileError::Bad { path, source }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PriceFileError::Unreadable { path, source }),
        }
    }
    Ok(imported)
}

/// Keeps the bytes of a checked file, in place of an earlier one of its kind.
pub fn save(dir: &Path, file: &PriceFile, bytes: &[u8]) -> Result<PathBuf, PriceFileError> {
    let path = dir.join(file.name());
    match write(dir, &path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(PriceFileError::Unwritable { path, source }),
    }
}

fn write(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    let beside = path.with_extension("new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&beside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(dir)?.sync_all()
}

/// The seller that a user names: a provider as in the ledger, else one of the catalogue.
pub fn seller(id: &str) -> Seller<'_> {
    provider(id).map_or(Seller::from(id), |row| Seller { id: row.id, catalogue: row.price_provider })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"a/b": {"litellm_provider": "a", "input_cost_per_token": 1e-6}}"#;

    #[test]
    fn what_was_saved_is_loaded_and_a_broken_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let prices = dir.path().join("prices");
        load(&prices).unwrap();
        let file = PriceFile::read(LIST.as_bytes()).unwrap();
        let path = save(&prices, &file, LIST.as_bytes()).unwrap();
        load(&prices).unwrap();
        fs::write(&path, "{").unwrap();
        let error = load(&prices).unwrap_err().to_string();
        assert!(error.contains("litellm.json can't be used") && error.contains("import another"), "{error}");
    }

    #[test]
    fn a_provider_of_the_ledger_has_the_catalogues_prices() {
        assert_eq!(seller("vertex"), Seller { id: "vertex", catalogue: "google" });
        assert_eq!(seller("x-ai"), Seller::from("x-ai"));
    }
}

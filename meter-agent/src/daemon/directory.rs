//! The daemon's directories, made or found, and fit to be trusted.
//!
//! Whoever owns a directory, or may write to it, can put other files in the place of root's: a log that is a link, a
//! socket of its own, a ledger. Such a directory is refused and not mended, because what is in it may be foreign
//! already. What lies above it is the operator's choice.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Bits by which others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{path} can't be made ({source}); choose another directory in the config")]
    Make { path: PathBuf, source: io::Error },
    #[error(
        "{path} belongs to the user {uid} and not to root; `sudo chown root {path}` if its content is the daemon's own, or choose another directory in the config"
    )]
    Owner { path: PathBuf, uid: u32 },
    #[error(
        "{path} can be written to by others than root; `sudo chmod go-w {path}` if its content is the daemon's own, or choose another directory in the config"
    )]
    Open { path: PathBuf },
}

/// Makes the directory with this mode, and tells whether it did; one that is there keeps its own, and must be root's.
pub fn make(path: &Path, mode: u32) -> Result<bool, DirectoryError> {
    let fault = |source| DirectoryError::Make { path: path.to_owned(), source };
    let made = make_one(path, mode).map_err(fault)?;
    // A link's owner decides where it leads.
    for found in [fs::symlink_metadata(path), fs::metadata(path)] {
        check(path, &found.map_err(fault)?)?;
    }
    Ok(made)
}

fn make_one(path: &Path, mode: u32) -> io::Result<bool> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken bits away.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

fn check(path: &Path, found: &Metadata) -> Result<(), DirectoryError> {
    if found.uid() != 0 {
        return Err(DirectoryError::Owner { path: path.to_owned(), uid: found.uid() });
    }
    // A link's own mode means nothing.
    if found.is_dir() && found.mode() & OTHERS_WRITE != 0 {
        return Err(DirectoryError::Open { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;
    use crate::users;

    const NOBODY: u32 = 65_534;

    #[test]
    fn a_directory_of_another_or_open_to_others_is_refused() {
        if !users::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("above/run");
        assert!(make(&path, 0o755).unwrap());
        assert!(!make(&path, 0o700).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o755, "one that is there keeps its mode");
        for mode in [0o775, 0o757, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = make(&path, 0o755).unwrap_err().to_string();
            assert!(error.contains("chmod go-w"), "{mode:o}: {error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&path, Some(NOBODY), None).unwrap();
        let error = make(&path, 0o755).unwrap_err().to_string();
        assert!(error.contains("the user 65534") && error.contains("chown root"), "{error}");
    }

    #[test]
    fn a_link_is_followed_if_it_is_root_s() {
        if !users::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        make(&real, 0o755).unwrap();
        symlink(&real, &link).unwrap();
        assert!(!make(&link, 0o755).unwrap());
        lchown(&link, Some(NOBODY), None).unwrap();
        assert!(matches!(make(&link, 0o755), Err(DirectoryError::Owner { uid: NOBODY, .. })));
    }

    #[test]
    fn a_file_in_its_place_is_not_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(make(&path, 0o755), Err(DirectoryError::Make { .. })));
    }
}

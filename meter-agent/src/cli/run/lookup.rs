//! Finds the command as a shell would, before a task is made for it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// Why there is nothing to execute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Miss {
    program: OsString,
    /// It is there, but can't be executed.
    pub(super) exists: bool,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.display();
        if self.exists {
            write!(f, "{name} is not executable; name a program, or make it one with chmod +x")
        } else {
            write!(f, "there is no command {name}; check its spelling and your PATH")
        }
    }
}

/// The path to execute: a name with a slash as it is, any other along `PATH`.
pub(super) fn find(program: &OsStr) -> Result<PathBuf, Miss> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    find_along(program, &path)
}

fn find_along(program: &OsStr, path: &OsStr) -> Result<PathBuf, Miss> {
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') || program.is_empty() {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(path).map(|dir| dir.join(program)).collect()
    };
    if let Some(found) = candidates.iter().find(|file| is_executable(file)) {
        return Ok(found.clone());
    }
    let exists = candidates.iter().any(|file| file.exists());
    Err(Miss { program: program.to_owned(), exists })
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_command_is_found_along_the_path_and_by_its_path() {
        let found = find_along("sh".as_ref(), "/no/such:/bin:/usr/bin".as_ref()).unwrap();
        assert_eq!(found, Path::new("/bin/sh"));
        assert_eq!(find_along("/bin/sh".as_ref(), "".as_ref()).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn what_is_missing_and_what_is_no_program_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes"), "text").unwrap();
        fs::set_permissions(dir.path().join("notes"), fs::Permissions::from_mode(0o644)).unwrap();
        let path = dir.path().as_os_str();
        assert!(find_along("notes".as_ref(), path).unwrap_err().exists);
        let miss = find_along("nots".as_ref(), path).unwrap_err();
        assert!(!miss.exists);
        assert_eq!(miss.to_string(), "there is no command nots; check its spelling and your PATH");
        assert!(find_along("".as_ref(), path).is_err());
        assert!(find_along(path, "".as_ref()).unwrap_err().exists, "a directory is no program");
    }
}

//! Where the daemon lives and what it listens on: directories, roots, ports, and when an answer may pass.

use std::path::PathBuf;

use meter_common::PORTS;
use toml::de::DeTable;

use super::{Config, read::Reader, values::Value};
use crate::cashier::Durability;

pub(super) const DURABILITIES: [(&str, Durability); 3] =
    [("strict", Durability::Strict), ("full", Durability::Full), ("relaxed", Durability::Relaxed)];
/// A socket's path has room for 107 bytes (`sun_path`), of which `/meter.sock` takes 11.
const RUN_DIR_BYTES_MAX: usize = 107 - 11;
/// Ports from here on can be bound by anyone, an agent before the sidecar for one.
const UNPRIVILEGED_PORT: i64 = 1024;

impl<'i> Reader<'i> {
    pub(super) fn machine(&mut self, table: &DeTable<'i>, config: &mut Config) {
        if let Some(dir) = table.get("data_dir").and_then(|v| self.directory("data_dir", v)) {
            config.data_dir = dir;
        }
        if let Some(dir) = table.get("run_dir").and_then(|v| self.run_dir(v)) {
            config.run_dir = dir;
        }
        if let Some(value) = table.get("run_dir").filter(|_| config.run_dir == config.data_dir) {
            let text = "`run_dir` is the same as `data_dir`; give each a directory of its own";
            self.mistake(&value.span(), text.to_owned());
        }
        config.upstream_ca_file =
            table.get("upstream_ca_file").and_then(|v| self.absolute("upstream_ca_file", "file", v));
        if let Some(level) = table.get("durability").and_then(|v| self.word("durability", v, &DURABILITIES)) {
            config.durability = level;
        }
        if let Some(ports) = table.get("listen_ports").and_then(|v| self.ports(v)) {
            config.listen_ports = ports;
        }
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
}

fn example_ports() -> String {
    format!("{:?}", super::DEFAULT_PORTS)
}

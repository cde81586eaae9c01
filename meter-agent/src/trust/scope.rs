//! What a certificate authority may sign for: names and addresses, and the name constraints that hold it to them.

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

/// What a certificate authority may sign for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// A name and everything below it.
    Dns(String),
    Ip(IpAddr),
}

impl Scope {
    /// The narrowest name constraint that covers a host pattern: a `*` label, or a label with a `*` in it,
    /// leaves what stands to its right.
    pub(super) fn of_pattern(pattern: &str) -> Self {
        let host = host_of(pattern);
        if let Ok(ip) = host.parse() {
            return Self::Ip(ip);
        }
        match host.rfind('*') {
            Some(star) => {
                let rest = &host[star..];
                Self::Dns(rest.split_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase())
            }
            None => Self::Dns(host.to_ascii_lowercase()),
        }
    }

    pub(super) fn covers(&self, host: &str) -> bool {
        match self {
            Self::Ip(ip) => host.parse() == Ok(*ip),
            Self::Dns(suffix) => {
                host == suffix || host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }

    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Dns(name) => GeneralSubtree::DnsName(name.clone()),
            Self::Ip(IpAddr::V4(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V4(ip.octets(), [255; 4])),
            Self::Ip(IpAddr::V6(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V6(ip.octets(), [255; 16])),
        }
    }
}

/// `name` of `name:port`, and of a bracketed IPv6 address.
fn host_of(entry: &str) -> &str {
    if let Some(rest) = entry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match entry.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        Some(_) | None => entry,
    }
}

/// Permits the scope and excludes every kind of name that the scope does not speak of: a constraint on DNS names
/// alone would leave addresses free.
pub(super) fn constraints(scope: &[Scope]) -> NameConstraints {
    let any_v4 = GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]));
    let any_v6 = GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16]));
    let permitted: Vec<GeneralSubtree> = scope.iter().map(Scope::subtree).collect();
    let names_address = scope.iter().any(|s| matches!(s, Scope::Ip(_)));
    let names_dns = scope.iter().any(|s| matches!(s, Scope::Dns(_)));
    let mut excluded = Vec::new();
    if !names_address {
        excluded.extend([any_v4, any_v6]);
    }
    if !names_dns {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

//! The accounts: `time_zone`, the host's policy at the top, and `[agent.NAME]`.

use jiff::tz::TimeZone;
use toml::de::DeTable;

use super::{
    mistake::suggestion,
    policy::{POLICY_KEYS, Place},
    read::{KEYS, Reader},
    values::Value,
};
use crate::{
    accounts::{
        Plan,
        policy::{Effective, Policy},
    },
    ids::AccountPath,
};

/// Categories that something falls under without an `[[api]]`.
const CATEGORIES: [&str; 4] = ["any", "llm", "web-search", "x402"];

impl<'i> Reader<'i> {
    pub(super) fn accounts(&mut self, table: &DeTable<'i>) -> Plan {
        let zone = table.get("time_zone").and_then(|v| self.time_zone(v)).unwrap_or(TimeZone::UTC);
        let categories = categories(table);
        let nothing = Effective::default();
        let place = Place { agent: None, zone: &zone, categories: &categories, above: &nothing };
        let host = self.policy(table, &place);
        let in_force = host.under(&nothing);
        let mut plan = Plan { host, zone: zone.clone(), ..Plan::default() };
        if let Some(agents) = table.get("agent") {
            self.agents(agents, &mut plan, &Place { above: &in_force, ..place });
        }
        plan
    }

    fn time_zone(&mut self, value: &Value<'i>) -> Option<TimeZone> {
        let name = self.string("time_zone", value)?;
        if let Ok(zone) = TimeZone::get(name) {
            return Some(zone);
        }
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        // The list is far too long to be shown where no name is near.
        let near = known.iter().map(String::as_str).filter(|known| known.len().abs_diff(name.len()) <= 2);
        let hint = match suggestion(name, &near.collect::<Vec<_>>()) {
            near if near.starts_with("did you mean") => near,
            _ => "use a name of the IANA database, like `Europe/Berlin`".to_owned(),
        };
        self.mistake(&value.span(), format!("there is no time zone `{name}`; {hint}"));
        None
    }

    /// Accounts above come before those below them, since their names sort so.
    fn agents(&mut self, value: &Value<'i>, plan: &mut Plan, top: &Place<'_>) {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), "`agent` is not a table; write each one below `[agent.NAME]`".to_owned());
            return;
        };
        for (name, agent) in table {
            let path = match name.get_ref().parse::<AccountPath>() {
                Ok(path) if path.is_host() => {
                    let text = "the host's own policy stands at the top of the file; move these keys there";
                    self.mistake(&name.span(), text.to_owned());
                    None
                }
                Ok(path) => Some(path),
                Err(error) => {
                    self.mistake(&name.span(), error.to_string());
                    None
                }
            };
            let Some(keys) = agent.get_ref().as_table() else {
                let text = format!(
                    "`agent.{name}` is not a table; write its keys below `[agent.{name}]`",
                    name = name.get_ref()
                );
                self.mistake(&agent.span(), text);
                continue;
            };
            let above = path.as_ref().map_or_else(Effective::default, |path| in_force_above(plan, path));
            let place = Place { agent: Some(name.get_ref()), above: &above, ..*top };
            self.known_agent_keys(keys, &place);
            let policy = self.policy(keys, &place);
            let Some(path) = path else { continue };
            if let Some(was) = keys.get("was").and_then(|v| self.was(v, &path, table, plan)) {
                plan.renamed.push((was, path.clone()));
            }
            plan.agents.push((path, policy));
        }
    }

    /// A key that belongs at the top says so, instead of being unknown.
    fn known_agent_keys(&mut self, keys: &DeTable<'i>, place: &Place<'_>) {
        let known: Vec<&str> = POLICY_KEYS.into_iter().chain(["was"]).collect();
        for (key, value) in keys.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let text = if KEYS.contains(&name) {
                format!("`{name}` stands at the top of the file, before every `[...]`; move it there")
            } else if value.get_ref().is_table() {
                let agent = place.agent.unwrap_or_default();
                format!(
                    "there is no table `{name}` of an agent; an account below one is written `[agent.\"{agent}/{name}\"]`"
                )
            } else {
                format!("there is no key `{name}`{}; {}", place.within(), suggestion(name, &known))
            };
            self.mistake(&key.span(), text);
        }
    }

    /// The account's path under its old name.
    fn was(&mut self, value: &Value<'i>, path: &AccountPath, all: &DeTable<'i>, plan: &Plan) -> Option<AccountPath> {
        let name = self.string("was", value)?;
        let parent = path.parent().unwrap_or_else(AccountPath::host);
        let fault = match parent.child(name) {
            Err(error) => error.to_string(),
            Ok(was) if was == *path => "`was` is the name that it has; remove it".to_owned(),
            Ok(was) if all.keys().any(|key| key.get_ref().as_ref() == was.as_str()) => {
                format!("`{was}` stands in this file as an account of its own; remove it there, or this `was`")
            }
            Ok(was) if plan.renamed.iter().any(|(other, _)| *other == was) => {
                format!("`{was}` became another account already; keep one of the two")
            }
            Ok(was) => return Some(was),
        };
        self.mistake(&value.span(), fault);
        None
    }
}

/// What is in force for the account above one, by the accounts that were read so far.
fn in_force_above(plan: &Plan, path: &AccountPath) -> Effective {
    let Some(above) = path.parent().filter(|above| !above.is_host()) else {
        return plan.host.under(&Effective::default());
    };
    let nothing = Policy::default();
    let own = plan.agents.iter().find(|(other, _)| *other == above).map_or(&nothing, |(_, policy)| policy);
    own.under(&in_force_above(plan, &above))
}

/// Every category that a limit can have: the built-in ones, and those of `[[api]]`, right or wrong otherwise.
fn categories(table: &DeTable<'_>) -> Vec<String> {
    let apis = table.get("api").and_then(|v| v.get_ref().as_array());
    let own =
        apis.into_iter().flatten().filter_map(|api| api.get_ref().as_table()?.get("category")?.get_ref().as_str());
    let mut all: Vec<String> = CATEGORIES.into_iter().chain(own).map(str::to_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

//! Paid APIs that a config adds, in the form of those built in.

use std::sync::{Mutex, PoisonError};

use super::{Api, ApiCall};
use crate::money::Pico;

/// A call of an API that the config adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCall {
    pub path: String,
    pub unit: String,
    pub price: Pico,
    /// Where the answer states its units; `None`: each call is one.
    pub pointer: Option<String>,
    /// Most units of a call.
    pub most: u64,
}

impl Api {
    /// An API of the config. It lives as long as the program; a config that says the same again, as most reloads do,
    /// gets the one that was made before.
    pub fn of_config(host: &str, category: &str, calls: &[OwnCall]) -> &'static Self {
        static MADE: Mutex<Vec<&'static Api>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let says_so = |api: &&&Self| {
            let same = api.calls.len() == calls.len() && api.calls.iter().zip(calls).all(|(row, own)| row.says(own));
            same && (api.id, api.category) == (host, category)
        };
        if let Some(known) = made.iter().find(says_so) {
            return known;
        }
        let calls = Box::leak(calls.iter().map(ApiCall::of_config).collect());
        let api = Box::leak(Box::new(Self { id: kept(host), hosts: &[], category: kept(category), calls }));
        made.push(api);
        api
    }
}

impl ApiCall {
    fn of_config(own: &OwnCall) -> Self {
        Self {
            name: kept(&own.path),
            path: kept(&own.path),
            by_get: true,
            unit: kept(&own.unit),
            price: own.price,
            each: own.most,
            most: own.most,
            pointers: own.pointer.as_deref().map_or(&[], |pointer| Box::leak(Box::new([kept(pointer)]))),
            charge: None,
            more: &[],
            limit: None,
            source: "the config",
        }
    }

    /// Whether it was made of the same as this one of the config.
    fn says(&self, own: &OwnCall) -> bool {
        (self.path, self.unit, self.price, self.most) == (&*own.path, &*own.unit, own.price, own.most)
            && self.pointers.first().copied() == own.pointer.as_deref()
    }
}

fn kept(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

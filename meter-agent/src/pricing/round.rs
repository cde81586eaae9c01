//! The only place where money passes between floats and integers.

use crate::money::Pico;

const PICO_PER_USD: f64 = 1e12;

/// Far above any count of tokens and below where f64 stops holding every integer.
const EXACT: u64 = 1 << 53;

/// A count as the catalogue takes it.
#[expect(clippy::cast_precision_loss, reason = "the count is capped where f64 still holds every integer")]
pub(super) fn count(n: u64) -> f64 {
    n.min(EXACT) as f64
}

/// Dollars rounded half up to a pico-dollar; `None` for what is no charge (negative, not finite, too large).
pub(super) fn half_up(usd: f64) -> Option<Pico> {
    to_pico((usd * PICO_PER_USD + 0.5).floor())
}

/// Dollars rounded up to a pico-dollar, forgiving the last bits of the float that is `2.5e-6`.
pub(super) fn up(usd: f64) -> Option<Pico> {
    let pico = usd * PICO_PER_USD;
    to_pico((pico - pico * 1e-12).ceil())
}

/// What a million tokens cost where `n` cost so many dollars, without the float's last bits: lists have no more than
/// nine decimals per million.
pub(super) fn per_million(usd: f64, n: u64) -> Option<Pico> {
    half_up((usd / count(n) * 1e15).round() / 1e9)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn to_pico(pico: f64) -> Option<Pico> {
    let most = count(u64::try_from(Pico::CAP.get()).unwrap_or(EXACT));
    (pico.is_finite() && (0.0..=most).contains(&pico)).then_some(Pico::new(pico as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_rounded_half_up_and_is_never_negative_or_infinite() {
        assert_eq!(half_up(0.000_010_5), Some(Pico::new(10_500_000)));
        assert_eq!(half_up(1.5e-12), Some(Pico::new(2)));
        assert_eq!(half_up(1.4e-12), Some(Pico::new(1)));
        assert_eq!(half_up(-1.0), None);
        assert_eq!(half_up(f64::NAN), None);
        assert_eq!(half_up(f64::INFINITY), None);
        assert_eq!(half_up(1e300), None);
    }

    #[test]
    fn a_rate_is_rounded_up_but_not_for_the_floats_last_bits() {
        assert_eq!(up(2.5e-6), Some(Pico::new(2_500_000)));
        assert_eq!(up(1.25e-12), Some(Pico::new(2)));
        assert_eq!(up(0.1 + 0.2), Some(Pico::new(300_000_000_000)));
    }
}

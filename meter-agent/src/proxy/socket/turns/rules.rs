//! What stands against a turn: a model that its account may not use, a worst case that has grown past its room, an end
//! that was told. Each ends the socket, with a row that says why.

use super::{SWITCHING_PROTOCOLS, Turns, facts};
use crate::{
    clock,
    exchange::{End, LLM},
    proxy::{
        problem,
        socket::refusal::{self, Closing},
    },
    usage::Problem,
};

impl Turns {
    /// Looks at the models that are named by now, and holds more where the turn can cost more than it could.
    pub(super) fn grow(&mut self) -> Result<(), Closing> {
        let facts = facts(self.reader.as_ref());
        if facts == self.facts {
            return Ok(());
        }
        self.facts = facts;
        if self.facts.model.is_none() && self.begun {
            self.permit(None)?;
        }
        for model in self.facts.models().map(str::to_owned).collect::<Vec<_>>() {
            self.permit(Some(&model))?;
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        let open = live.open();
        let at = open.exchange.started_at();
        let quote = open.prices.admit(self.opening.seller(), &self.facts, at, self.on_plan);
        open.exchange.asked(self.facts.model.clone(), true);
        let Some(held) = open.hold.as_ref().map(|hold| hold.amount) else { return Ok(()) };
        // The message that names such a model is not whole on the provider's side yet.
        let worst = match quote {
            Ok(quote) => quote.worst(),
            Err(error) => return Err(self.refuse(&problem::no_price(&error.to_string()))),
        };
        let more = worst.saturating_sub(held);
        if !more.is_positive() || live.grow(more) {
            return Ok(());
        }
        let sentence = format!(
            "meter: this turn can cost ${worst}, and a limit of account {} has no room beyond the ${held} held for it",
            self.opening.account,
        );
        Err(self.refuse(&problem::refused_turn(sentence)))
    }

    /// Ends the socket where the account may not use the model; `None`: one that nobody can name.
    pub(super) fn permit(&mut self, model: Option<&str>) -> Result<(), Closing> {
        if self.opening.category != LLM {
            return Ok(());
        }
        let permitted = self.shared.cashier.permit(self.account, model, clock::now());
        permitted.map_err(|refused| self.refuse(&problem::refused(refused)))
    }

    /// Ends what is under way for what it is taken to have used, with a row for why.
    pub(super) fn refuse(&mut self, problem: &Problem) -> Closing {
        let sentence = problem.text();
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.release();
        }
        let refused = self.asking.take();
        self.close(&End::Cut { status: None, why: sentence.clone() });
        let refused = refused.unwrap_or_else(|| self.turn());
        refused.end(&refusal::end(problem.status, sentence));
        Closing::refused(problem, self.reader.refusal(problem))
    }

    /// Why no turn may begin any more.
    pub(super) fn stopped(&mut self) -> Closing {
        let shut = self.shared.cashier.shut(self.account).map(problem::refused);
        let closing = match &shut {
            Some(problem) => Closing::refused(problem, self.reader.refusal(problem)),
            None => Closing::cut("meter: no more turns are admitted".to_owned()),
        };
        // What waited was not answered.
        if let Some(asking) = self.asking.take() {
            let status = shut.map_or(SWITCHING_PROTOCOLS, |problem| problem.status);
            asking.end(&refusal::end(status, closing.sentence.clone()));
        }
        closing
    }
}

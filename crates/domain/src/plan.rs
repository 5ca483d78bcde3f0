//! Plans: what is sold, for how much, and what each may use. They come from one file
//! (`plans.toml`, which the operator may replace), and every price and limit shown anywhere comes from it.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::money::Cents;

/// The plan file that is used where the operator gives none.
pub const DEFAULT_PLANS: &str = include_str!("plans.toml");

/// Everything that is sold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    pub trial: Trial,
    #[serde(rename = "plan")]
    pub plans: Vec<Plan>,
}

/// What a visitor gets before they pay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub days: i64,
    pub grace_days: i64,
    /// Days that a suspended client's data is kept.
    pub retention_days: i64,
    pub instance_type: String,
    /// How many trials share one instance.
    pub clients_per_instance: u32,
    pub limits: Limits,
}

/// One thing that is sold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// `starter`, `business`, `enterprise`.
    pub id: String,
    pub name: String,
    pub summary: String,
    pub month_cents: Cents,
    pub year_cents: Cents,
    /// The cloud's name of the dedicated instance's size.
    pub instance_type: String,
    pub limits: Limits,
}

/// How often a client pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    Month,
    Year,
}

impl Interval {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// Why a plan file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPlans {
    #[error("the plan file cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the plan file has no [[plan]]: at least one is needed")]
    NoPlan,
    #[error("plan {0:?} stands twice in the plan file")]
    Twice(String),
    #[error("plan {0:?}: its id must be lower-case letters, digits and single dashes (3 to 40)")]
    Id(String),
    #[error("{0} must be greater than 0")]
    NotPositive(String),
}

impl Plans {
    /// Reads and checks a plan file.
    pub fn parse(text: &str) -> Result<Self, BadPlans> {
        let plans: Self = toml::from_str(text)?;
        if plans.plans.is_empty() {
            return Err(BadPlans::NoPlan);
        }
        let trial = &plans.trial;
        let trial_numbers = [
            ("trial.days", trial.days),
            ("trial.grace_days", trial.grace_days),
            ("trial.retention_days", trial.retention_days),
            ("trial.clients_per_instance", i64::from(trial.clients_per_instance)),
        ];
        for (name, value) in trial_numbers {
            if value <= 0 {
                return Err(BadPlans::NotPositive(name.into()));
            }
        }
        for (i, plan) in plans.plans.iter().enumerate() {
            if !crate::names::is_label(&plan.id) {
                return Err(BadPlans::Id(plan.id.clone()));
            }
            if plans.plans[..i].iter().any(|other| other.id == plan.id) {
                return Err(BadPlans::Twice(plan.id.clone()));
            }
            for (what, cents) in [("month_cents", plan.month_cents), ("year_cents", plan.year_cents)] {
                if cents.0 <= 0 {
                    return Err(BadPlans::NotPositive(format!("{what} of plan {}", plan.id)));
                }
            }
        }
        Ok(plans)
    }

    pub fn get(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
}

impl Plan {
    pub fn price(&self, interval: Interval) -> Cents {
        match interval {
            Interval::Month => self.month_cents,
            Interval::Year => self.year_cents,
        }
    }

    /// The key by which the till finds this price again: `stackpro_starter_month`.
    pub fn lookup_key(&self, interval: Interval) -> String {
        format!("stackpro_{}_{}", self.id, interval.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plans_are_those_of_the_design() {
        let plans = Plans::parse(DEFAULT_PLANS).unwrap();
        let prices: Vec<_> = plans.plans.iter().map(|p| (p.id.as_str(), p.month_cents.0, p.year_cents.0)).collect();
        assert_eq!(
            prices,
            [("starter", 29_900, 299_000), ("business", 59_900, 599_000), ("enterprise", 129_900, 1_299_000)]
        );
        assert_eq!((plans.trial.days, plans.trial.grace_days, plans.trial.clients_per_instance), (14, 3, 10));
        assert_eq!(plans.trial.limits.storage_bytes, Some(1 << 30));
        assert_eq!(plans.get("starter").unwrap().limits.storage_bytes, None);
    }

    #[test]
    fn a_bad_plan_file_is_refused_and_says_why() {
        let twice = DEFAULT_PLANS.replace("id = \"business\"", "id = \"starter\"");
        assert!(Plans::parse(&twice).unwrap_err().to_string().contains("stands twice"));
        let free = DEFAULT_PLANS.replace("month_cents = 29_900", "month_cents = 0");
        assert!(Plans::parse(&free).unwrap_err().to_string().contains("month_cents of plan starter"));
        assert!(Plans::parse("").is_err());
        let typo = DEFAULT_PLANS.replace("grace_days", "grace_dayz");
        assert!(Plans::parse(&typo).unwrap_err().to_string().contains("grace_dayz"));
    }
}

//! The month's money: what is known of it, and what it comes to so far and at its end. It is an estimate at
//! list prices, from what runs and is used; the cloud's bill and the till have the last word.

use stackpro_domain::ClientId;
use stackpro_domain::cost::{Balance, ClientCost, Costs, Facts};
use stackpro_store::{StoreError, Whose};

use crate::world::World;

#[derive(Clone, Debug)]
pub struct Month {
    pub facts: Facts,
    pub so_far: Costs,
    /// If everything goes on as it does now.
    pub projected: Costs,
}

impl World {
    /// The month that it is. The number of statements does not grow with what there is.
    pub async fn month(&self, whose: Whose<'_>) -> Result<Month, StoreError> {
        let facts = self.store.month(self.now(), whose).await?;
        let so_far = facts.so_far(&self.prices, &self.plans);
        let projected = facts.projected(&self.prices, &self.plans);
        Ok(Month { facts, so_far, projected })
    }
}

impl Month {
    /// What one client brings and costs: so far, and at the month's end.
    pub fn balances(&self, client: &ClientId) -> [Balance; 2] {
        [&self.so_far, &self.projected]
            .map(|costs| costs.clients.get(client).map(ClientCost::balance).unwrap_or_default())
    }
}

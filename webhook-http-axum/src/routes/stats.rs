//! Statistics of tenants and of subscriptions, in one shape.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use webhook_core::id::SubscriptionId;
use webhook_core::stats::{Scope as Of, WINDOWS};
use webhook_core::units::{format_duration, parse_duration};

use crate::access::{Caller, Scope};
use crate::json::{StatsJson, json};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::state::{App, Shared};

/// The window of who names none.
const DEFAULT_WINDOW: &str = "24h";

pub(super) async fn all(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["window"])?;
    let of = match caller.scope(&params)? {
        Scope::One(tenant) => Of::Tenant(tenant),
        Scope::All => Of::All,
    };
    show(&app, &params, &of).await
}

pub(super) async fn of_subscription(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<SubscriptionId>,
) -> Result<Response, Problem> {
    params.only(&["window"])?;
    let scope = caller.scope(&params)?;
    window(&params)?;
    let subscription = app.subscription(&scope, id).await?;
    show(&app, &params, &Of::Subscription(subscription.tenant.clone(), id)).await
}

/// As it was written, and what it means.
fn window(params: &Params) -> Result<(&str, Duration), Problem> {
    let text = params.text("window").unwrap_or(DEFAULT_WINDOW);
    let window = parse_duration(text).map_err(|error| Problem::parameter("window", error))?;
    if !WINDOWS.contains(&window) {
        let (shortest, longest) = (format_duration(*WINDOWS.start()), format_duration(*WINDOWS.end()));
        return Err(Problem::parameter("window", format!("expected {shortest} to {longest}")));
    }
    Ok((text, window))
}

async fn show(app: &App, params: &Params, of: &Of) -> Result<Response, Problem> {
    let (text, window) = window(params)?;
    let statistics = app.webhooks.statistics(of, window).await?;
    Ok(json(StatusCode::OK, &StatsJson::of(text, &statistics)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemCode;

    #[test]
    fn a_window_is_a_minute_to_thirty_days() {
        let of = |query: &str| window(&Params::parse(Some(query))).map(|(_, window)| window.as_secs());
        assert_eq!(of(""), Ok(24 * 3600));
        assert_eq!(of("window=1h30m"), Ok(5400));
        assert_eq!((of("window=60s"), of("window=30d")), (Ok(60), Ok(30 * 86_400)));
        for bad in ["", "0", "59s", "721h", "31d", "60", "1.5h", "-1h", "1H", "a day", "36500d", "36501d"] {
            let refused = of(&format!("window={bad}")).unwrap_err();
            assert_eq!(refused.code(), ProblemCode::InvalidParameter, "{bad}");
        }
    }
}

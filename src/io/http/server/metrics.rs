//! The page of metrics, in the text form of Prometheus.

use super::HttpStats;
use crate::tracker::placement::Overview;
use crate::tracker::registry::Stats;

/// Every counter and gauge.
pub(super) fn render(stats: &Stats, http: &HttpStats, overview: &Overview) -> String {
    let rows = [
        ("requests_total", "counter", stats.requests_total),
        ("connects_total", "counter", stats.connects_total),
        ("finds_total", "counter", stats.finds_total),
        ("reports_total", "counter", stats.reports_total),
        ("joins_total", "counter", stats.joins_total),
        ("leaves_total", "counter", stats.leaves_total),
        ("expired_total", "counter", stats.expired_total),
        ("replays_total", "counter", stats.replays_total),
        ("peers", "gauge", stats.peers as u64),
        ("swarms", "gauge", stats.swarms as u64),
        ("channels", "gauge", stats.channels as u64),
        ("http_connections_total", "counter", http.connections_total),
        ("http_refused_total", "counter", http.refused_total),
        ("http_called_off_total", "counter", http.called_off_total),
        ("http_timeouts_total", "counter", http.timeouts_total),
        ("http_oversized_total", "counter", http.oversized_total),
        (
            "http_accept_errors_total",
            "counter",
            http.accept_errors_total,
        ),
        ("http_connections", "gauge", http.connections),
    ];
    let mut text = String::new();
    for (name, kind, value) in rows {
        text += &format!("# TYPE p2ps_tracker_{name} {kind}\np2ps_tracker_{name} {value}\n");
    }
    text += "# TYPE p2ps_tracker_rejects_total counter\n";
    for (code, value) in stats.rejects() {
        text += &format!(
            "p2ps_tracker_rejects_total{{reason=\"{}\"}} {value}\n",
            code.name()
        );
    }
    if overview.has_clusters {
        let mut gauge = |name: &str, value: f64| {
            text += &format!("# TYPE p2ps_tracker_{name} gauge\np2ps_tracker_{name} {value}\n");
        };
        gauge("supporters", overview.supporters() as f64);
        if let Some(model) = overview.model() {
            gauge("model_supporters", model.supporters);
            gauge("model_reject_ratio", model.reject_ratio);
        }
    }
    text
}

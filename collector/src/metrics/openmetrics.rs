//! From Prometheus' text format to OpenMetrics 1.0, which can hold exemplars.
//!
//! What differs for the families that the collector has: a counter's family has no `_total`, and
//! the text ends with `# EOF`.

/// The media type of OpenMetrics, without parameters.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text";

/// Whether an `Accept` header prefers OpenMetrics to what else it names. Without weights (or with
/// equal ones) OpenMetrics counts as preferred when it is named.
pub(crate) fn openmetrics(accept: &str) -> bool {
    let mut best = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        let slot = if media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
            &mut best.0
        } else {
            &mut best.1
        };
        *slot = f64::max(*slot, weight);
    }
    best.0 > 0.0 && best.0 >= best.1
}

/// The same metrics as OpenMetrics.
pub(crate) fn convert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        match family(line) {
            Some((head, rest)) => {
                out.push_str(head);
                out.push_str(rest);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

/// The parts of a comment line about a counter before and after `_total`.
fn family(line: &str) -> Option<(&str, &str)> {
    let rest = (line.strip_prefix("# HELP ")).or_else(|| line.strip_prefix("# TYPE "))?;
    let name_len = rest.find(' ')?;
    let name_end = line.len() - rest.len() + name_len;
    let (name, rest) = line.split_at_checked(name_end)?;
    Some((name.strip_suffix("_total")?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert!(openmetrics(prometheus));
        assert!(openmetrics("application/openmetrics-text; version=1.0.0"));
        assert!(!openmetrics(
            "text/plain;q=0.9, application/openmetrics-text;q=0.1"
        ));
        assert!(!openmetrics("*/*") && !openmetrics("") && !openmetrics("text/html"));
        assert!(!openmetrics("application/openmetrics-text;q=0"));
    }

    #[test]
    fn counters_lose_their_suffix_in_the_family_only() {
        let text = "# HELP a_total Help of _total x.\n# TYPE a_total counter\na_total{x=\"_total \"} 1\n# TYPE b gauge\nb 2\n";
        let expected = "# HELP a Help of _total x.\n# TYPE a counter\na_total{x=\"_total \"} 1\n# TYPE b gauge\nb 2\n# EOF\n";
        assert_eq!(convert(text), expected);
    }
}

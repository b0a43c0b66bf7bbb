//! A buffer that keeps markup and text apart.

/// Markup under construction: literals go in by [`Html::raw`], everything else by
/// [`Html::text`], which escapes.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// A table's column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// Left-aligned.
    Text(&'static str),
    /// Right-aligned, heading and cells.
    Number(&'static str),
}

impl Html {
    /// Appends markup written in this crate.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Appends text, escaped for elements and quoted attributes.
    pub(super) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
    }

    /// Opens a section. `id` names it for links within the page.
    pub(super) fn section(&mut self, id: &'static str, title: &'static str, hint: &str) {
        self.raw("<section aria-labelledby=\"");
        self.raw(id);
        self.raw("\"><h2 id=\"");
        self.raw(id);
        self.raw("\">");
        self.raw(title);
        self.raw("</h2>");
        if !hint.is_empty() {
            self.raw("<p class=\"hint\">");
            self.text(hint);
            self.raw("</p>");
        }
    }

    /// Closes a section.
    pub(super) fn section_end(&mut self) {
        self.raw("</section>");
    }

    /// What stands where there is nothing to show.
    pub(super) fn nothing(&mut self, text: &str) {
        self.raw("<p class=\"empty\">");
        self.text(text);
        self.raw("</p>");
    }

    /// A table cell with text.
    pub(super) fn cell(&mut self, text: &str) {
        self.raw("<td>");
        self.text(text);
        self.raw("</td>");
    }

    /// The cell that names its row.
    pub(super) fn row_head(&mut self, text: &str) {
        self.raw("<tr><th scope=\"row\">");
        self.text(text);
        self.raw("</th>");
    }

    /// A table cell with a number.
    pub(super) fn number(&mut self, text: &str) {
        self.raw("<td class=\"number\">");
        self.text(text);
        self.raw("</td>");
    }

    /// A table cell with a bar for a share between 0 and 1.
    pub(super) fn share(&mut self, share: f64) {
        self.raw("<td class=\"share\"><svg width=\"100%\" height=\"8\" aria-hidden=\"true\"><rect class=\"track\" width=\"100%\" height=\"8\" rx=\"2\"/><rect height=\"8\" rx=\"2\" width=\"");
        self.text(&format!("{:.2}%", share.clamp(0.0, 1.0) * 100.0));
        self.raw("\"/></svg></td>");
    }

    /// A class of data as a badge.
    pub(super) fn class(&mut self, class: &str) {
        self.raw(match class {
            "PII" => "<td><span class=\"badge pii\">",
            "SENSITIVE" => "<td><span class=\"badge sensitive\">",
            _ => "<td><span class=\"badge\">",
        });
        self.text(class);
        self.raw("</span></td>");
    }

    /// Opens a table that scrolls by itself on narrow screens; `label` says what it shows.
    pub(super) fn table_head(&mut self, label: &'static str, columns: &[Column]) {
        self.raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
        self.raw(label);
        self.raw("\"><table><thead><tr>");
        for column in columns {
            let name = match column {
                Column::Text(name) => {
                    self.raw("<th scope=\"col\">");
                    name
                }
                Column::Number(name) => {
                    self.raw("<th scope=\"col\" class=\"number\">");
                    name
                }
            };
            self.text(name);
            self.raw("</th>");
        }
        self.raw("</tr></thead><tbody>");
    }

    /// Closes a table.
    pub(super) fn table_end(&mut self) {
        self.raw("</tbody></table></div>");
    }

    /// Appends finished markup.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }
}

/// A whole document.
pub(super) fn document(title: &str, body: &Html) -> String {
    let mut page = Html::default();
    page.raw(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/style.css\"><title>",
    );
    page.text(title);
    page.raw(
        " · Tracemeter</title></head><body><a class=\"skip\" href=\"#main\">Skip to content</a>\
         <header><a class=\"brand\" href=\"/\">Tracemeter</a><nav aria-label=\"Sections\">\
         <a href=\"/#cost\">Cost</a><a href=\"/#traces\">Traces</a><a href=\"/#alerts\">Alerts</a>\
         <a href=\"/#sampling\">Sampling</a><a href=\"/#storage\">Storage</a></nav></header>\
         <main id=\"main\"><h1>",
    );
    page.text(title);
    page.raw("</h1>");
    page.append(body);
    page.raw("</main></body></html>\n");
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element_or_attribute() {
        let mut html = Html::default();
        html.text("<script>alert(\"1\")</script>' onload='&");
        assert_eq!(
            html.0,
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onload=&#39;&amp;"
        );
    }
}

//! A buffer that keeps markup and text apart.

/// Markup under construction: literals go in by [`Html::raw`], everything else by
/// [`Html::text`], which escapes.
#[derive(Debug, Default)]
pub(super) struct Html(String);

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

    /// A table cell with a number.
    pub(super) fn number(&mut self, text: &str) {
        self.raw("<td class=\"number\">");
        self.text(text);
        self.raw("</td>");
    }

    /// Opens a table that scrolls by itself on narrow screens.
    pub(super) fn table_head(&mut self, columns: &[&'static str]) {
        self.raw("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
        for column in columns {
            self.raw("<th scope=\"col\">");
            self.text(column);
            self.raw("</th>");
        }
        self.raw("</tr></thead><tbody>");
    }

    /// Closes table and section.
    pub(super) fn table_end(&mut self, is_empty: bool) {
        self.raw("</tbody></table></div>");
        if is_empty {
            self.raw("<p class=\"dim\">Nothing yet.</p>");
        }
        self.raw("</section>");
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
        " · Tracemeter</title></head><body><header><a href=\"/\">Tracemeter</a></header><main><h1>",
    );
    page.text(title);
    page.raw("</h1>");
    page.0.push_str(&body.0);
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

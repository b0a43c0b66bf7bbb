//! The built-in names, as data.

use super::{Rule, rule};
use crate::DataTag;

/// Sorted by their words, so that the rules for a word lie together.
pub(super) const RULES: &[Rule] = &[
    rule(&["access", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["access", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["accesskey"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["accesstoken"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["account", "balance"], DataTag::Sensitive),
    rule(&["account", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["account", "number"], DataTag::Pii),
    rule(&["address", "line"], DataTag::Pii),
    rule(&["allergies"], DataTag::Sensitive),
    rule(&["api", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["apikey"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["auth"], DataTag::Sensitive).at_end(),
    rule(&["auth", "code"], DataTag::Sensitive).inline(),
    rule(&["auth", "cookie"], DataTag::Sensitive).inline(),
    rule(&["auth", "data"], DataTag::Sensitive).inline(),
    rule(&["auth", "header"], DataTag::Sensitive).inline(),
    rule(&["auth", "key"], DataTag::Sensitive).inline(),
    rule(&["auth", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["authorization"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "method", "type", "status", "mode", "policy", "result", "server", "endpoint",
            "decision", "allowed", "url",
        ]),
    rule(&["authtoken"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["bank", "account"], DataTag::Pii),
    rule(&["bearer"], DataTag::Sensitive),
    rule(&["billing", "address"], DataTag::Pii),
    rule(&["biometric"], DataTag::Pii),
    rule(&["biometrics"], DataTag::Pii),
    rule(&["birth"], DataTag::Pii),
    rule(&["birth", "date"], DataTag::Pii),
    rule(&["birthdate"], DataTag::Pii),
    rule(&["birthday"], DataTag::Pii),
    rule(&["blood", "type"], DataTag::Sensitive),
    rule(&["bonus", "amount"], DataTag::Sensitive),
    rule(&["card", "holder"], DataTag::Pii),
    rule(&["card", "number"], DataTag::Pii),
    rule(&["card", "pin"], DataTag::Sensitive),
    rule(&["cardholder"], DataTag::Pii),
    rule(&["cardnumber"], DataTag::Pii),
    rule(&["cell", "number"], DataTag::Pii),
    rule(&["client", "address"], DataTag::Pii),
    rule(&["client", "ip"], DataTag::Pii),
    rule(&["client", "secret"], DataTag::Sensitive)
        .inline()
        .unless_before(&["name", "id", "version", "type", "ref", "store"]),
    rule(&["compensation"], DataTag::Sensitive),
    rule(&["connecting", "ip"], DataTag::Pii),
    rule(&["cookie"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["cookies"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["credential"], DataTag::Sensitive)
        .unless_before(&["provider", "type", "count", "source"]),
    rule(&["credentials"], DataTag::Sensitive)
        .unless_before(&["provider", "type", "count", "source"]),
    rule(&["credit", "card"], DataTag::Pii),
    rule(&["credit", "score"], DataTag::Sensitive),
    rule(&["creditcard"], DataTag::Pii),
    rule(&["creds"], DataTag::Sensitive).unless_before(&["provider", "type", "count", "source"]),
    rule(&["csrf", "token"], DataTag::Sensitive).inline(),
    rule(&["customer", "id"], DataTag::Pii),
    rule(&["customer", "name"], DataTag::Pii),
    rule(&["cvc"], DataTag::Pii),
    rule(&["cvv"], DataTag::Pii),
    rule(&["date", "of", "birth"], DataTag::Pii),
    rule(&["dateofbirth"], DataTag::Pii),
    rule(&["debit", "card"], DataTag::Pii),
    rule(&["diagnoses"], DataTag::Sensitive),
    rule(&["diagnosis"], DataTag::Sensitive),
    rule(&["disability"], DataTag::Sensitive),
    rule(&["disease"], DataTag::Sensitive),
    rule(&["display", "name"], DataTag::Pii),
    rule(&["dob"], DataTag::Pii),
    rule(&["driver", "license"], DataTag::Pii),
    rule(&["drivers", "license"], DataTag::Pii),
    rule(&["driving", "licence"], DataTag::Pii),
    rule(&["e", "mail"], DataTag::Pii),
    rule(&["email"], DataTag::Pii),
    rule(&["emailaddress"], DataTag::Pii),
    rule(&["encryption", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["enduser", "id"], DataTag::Pii),
    rule(&["ethnicity"], DataTag::Pii),
    rule(&["family", "name"], DataTag::Pii),
    rule(&["fax", "number"], DataTag::Pii),
    rule(&["first", "name"], DataTag::Pii),
    rule(&["firstname"], DataTag::Pii),
    rule(&["forwarded", "for"], DataTag::Pii),
    rule(&["full", "name"], DataTag::Pii),
    rule(&["fullname"], DataTag::Pii),
    rule(&["gender"], DataTag::Pii),
    rule(&["geo", "lat"], DataTag::Pii),
    rule(&["geo", "lon"], DataTag::Pii),
    rule(&["geolocation"], DataTag::Pii),
    rule(&["given", "name"], DataTag::Pii),
    rule(&["health"], DataTag::Sensitive).unless_before(&[
        "check", "checks", "checker", "checking", "status", "probe", "endpoint", "score", "state",
        "port", "path", "interval", "z", "service", "monitor",
    ]),
    rule(&["home", "address"], DataTag::Pii),
    rule(&["iban"], DataTag::Pii),
    rule(&["id", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["idtoken"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["income"], DataTag::Sensitive),
    rule(&["ip", "address"], DataTag::Pii),
    rule(&["ipaddress"], DataTag::Pii),
    rule(&["jsessionid"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["jwt"], DataTag::Sensitive),
    rule(&["last", "name"], DataTag::Pii),
    rule(&["lastname"], DataTag::Pii),
    rule(&["latitude"], DataTag::Pii),
    rule(&["legal", "name"], DataTag::Pii),
    rule(&["license", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["longitude"], DataTag::Pii),
    rule(&["maiden", "name"], DataTag::Pii),
    rule(&["mailing", "address"], DataTag::Pii),
    rule(&["master", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["medical"], DataTag::Sensitive),
    rule(&["medication"], DataTag::Sensitive),
    rule(&["medications"], DataTag::Sensitive),
    rule(&["mfa", "code"], DataTag::Sensitive),
    rule(&["middle", "name"], DataTag::Pii),
    rule(&["mobile", "number"], DataTag::Pii),
    rule(&["msisdn"], DataTag::Pii),
    rule(&["national", "id"], DataTag::Pii),
    rule(&["national", "insurance"], DataTag::Pii).inline(),
    rule(&["nationality"], DataTag::Pii),
    rule(&["net", "worth"], DataTag::Sensitive),
    rule(&["nino"], DataTag::Pii).inline(),
    rule(&["otp"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "method"]),
    rule(&["passcode"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "policy", "reset", "length", "expired", "changed", "strength",
        ]),
    rule(&["passphrase"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "policy", "reset", "length", "expired", "changed", "strength",
        ]),
    rule(&["passport"], DataTag::Pii).inline(),
    rule(&["passwd"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "policy", "reset", "length", "expired", "changed", "strength",
        ]),
    rule(&["password"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "policy", "reset", "length", "expired", "changed", "strength",
        ]),
    rule(&["patient"], DataTag::Pii),
    rule(&["payroll"], DataTag::Sensitive),
    rule(&["phone"], DataTag::Pii),
    rule(&["phonenumber"], DataTag::Pii),
    rule(&["phpsessid"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["pin", "code"], DataTag::Sensitive),
    rule(&["postal", "address"], DataTag::Pii),
    rule(&["postal", "code"], DataTag::Pii),
    rule(&["postalcode"], DataTag::Pii),
    rule(&["postcode"], DataTag::Pii),
    rule(&["prescription"], DataTag::Sensitive),
    rule(&["private", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["privatekey"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["pwd"], DataTag::Sensitive).inline().unless_before(&[
        "policy", "reset", "length", "expired", "changed", "strength",
    ]),
    rule(&["real", "ip"], DataTag::Pii),
    rule(&["recovery", "code"], DataTag::Sensitive),
    rule(&["refresh", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["refreshtoken"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["religion"], DataTag::Pii),
    rule(&["remote", "addr"], DataTag::Pii),
    rule(&["remote", "ip"], DataTag::Pii),
    rule(&["salary"], DataTag::Sensitive),
    rule(&["secret"], DataTag::Sensitive)
        .inline()
        .unless_before(&["name", "id", "version", "type", "ref", "store"]),
    rule(&["secret", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["secretkey"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["secrets"], DataTag::Sensitive).unless_before(&["provider", "type", "count", "source"]),
    rule(&["security", "answer"], DataTag::Sensitive),
    rule(&["security", "code"], DataTag::Sensitive),
    rule(&["security", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["session", "id"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["session", "key"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["session", "secret"], DataTag::Sensitive).inline(),
    rule(&["session", "token"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["sessionid"], DataTag::Sensitive).unless_before(&["count"]),
    rule(&["sessiontoken"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "ttl", "expiry"]),
    rule(&["shared", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["shipping", "address"], DataTag::Pii),
    rule(&["sig"], DataTag::Sensitive).inline_only(),
    rule(&["signature"], DataTag::Sensitive).inline_only(),
    rule(&["signing", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["social", "security"], DataTag::Pii).inline(),
    rule(&["sort", "code"], DataTag::Pii),
    rule(&["source", "ip"], DataTag::Pii),
    rule(&["ssh", "key"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "count", "version", "algorithm", "name"]),
    rule(&["ssn"], DataTag::Pii).inline(),
    rule(&["street"], DataTag::Pii),
    rule(&["surname"], DataTag::Pii),
    rule(&["tax", "id"], DataTag::Pii).inline(),
    rule(&["telephone"], DataTag::Pii),
    rule(&["token"], DataTag::Sensitive)
        .inline()
        .unless_before(&[
            "type", "count", "counts", "usage", "limit", "limits", "budget", "bucket", "ring",
            "id", "length", "expiry", "ttl", "per", "rate",
        ])
        .unless_after(&[
            "page",
            "next",
            "prompt",
            "completion",
            "input",
            "output",
            "max",
            "total",
            "num",
            "continuation",
            "csrf",
            "sync",
        ]),
    rule(&["totp"], DataTag::Sensitive)
        .inline()
        .unless_before(&["type", "method"]),
    rule(&["user", "full"], DataTag::Pii),
    rule(&["user", "id"], DataTag::Pii),
    rule(&["user", "ip"], DataTag::Pii),
    rule(&["user", "name"], DataTag::Pii),
    rule(&["userid"], DataTag::Pii),
    rule(&["username"], DataTag::Pii),
    rule(&["verification", "code"], DataTag::Sensitive),
    rule(&["wage"], DataTag::Sensitive),
    rule(&["wages"], DataTag::Sensitive),
    rule(&["zip", "code"], DataTag::Pii),
    rule(&["zipcode"], DataTag::Pii),
];

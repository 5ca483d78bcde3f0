"""Drives the simulated Stripe with Stripe's own Python library: judge.py BASE_URL."""

import http.server
import queue
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import stripe

base = sys.argv[1]
client = stripe.StripeClient("sk_test_stackpro", base_addresses={"api": base}, max_network_retries=0)
received = queue.Queue()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received.put((body, self.headers["stripe-signature"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
hook = f"http://127.0.0.1:{server.server_port}/hook"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def post_form(url, **fields):
    opener = urllib.request.build_opener(NoRedirect)
    try:
        answer = opener.open(url, urllib.parse.urlencode(fields).encode(), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers.get("location"), answer.read().decode()


def event_of(kind, deadline=20):
    """The next verified event of a kind; later ones stay out of the way."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            body, signature = received.get(timeout=1)
        except queue.Empty:
            continue
        event = stripe.Webhook.construct_event(body, signature, secret)
        if event.type == kind:
            return event, body, signature
    raise AssertionError(f"no {kind} was delivered")


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


# Who calls.
wrong = stripe.StripeClient("sk_test_wrong", base_addresses={"api": base}, max_network_retries=0)
refused(stripe.AuthenticationError, lambda: wrong.v1.balance.retrieve())
assert client.v1.balance.retrieve().object == "balance"

# Who is told. The secret is shown once.
endpoint = client.v1.webhook_endpoints.create({"url": hook, "enabled_events": ["*"]})
secret = endpoint.secret
assert secret.startswith("whsec_") and not hasattr(client.v1.webhook_endpoints.retrieve(endpoint.id), "secret")

# Customers, and the errors that callers tell apart.
customer = client.v1.customers.create({"email": "ada@example.com", "name": "Ada & <Co>", "metadata": {"client": "ada-1"}})
assert client.v1.customers.retrieve(customer.id).metadata["client"] == "ada-1"
client.v1.customers.update(customer.id, {"metadata": {"plan": "starter"}})
assert client.v1.customers.retrieve(customer.id).metadata.to_dict() == {"client": "ada-1", "plan": "starter"}
assert refused(stripe.InvalidRequestError, lambda: client.v1.customers.retrieve("cus_none")).code == "resource_missing"
assert refused(stripe.InvalidRequestError, lambda: client.v1.customers.create({"colour": "red"})).param == "colour"

# The same key answers the same, and other parameters are refused.
key = {"idempotency_key": f"key-{customer.id}"}
once = client.v1.customers.create({"email": "bob@example.com"}, key)
again = client.v1.customers.create({"email": "bob@example.com"}, key)
assert once.id == again.id and again.last_response.headers["idempotent-replayed"] == "true"
refused(stripe.IdempotencyError, lambda: client.v1.customers.create({"email": "eve@example.com"}, key))
assert len(client.v1.customers.list({"email": "bob@example.com"}).data) == 1

# A catalogue found by its lookup keys; paging.
product = client.v1.products.create({"name": "StackPro Starter"})
run = customer.id[-6:]
for interval, amount in (("month", 29900), ("year", 299000)):
    client.v1.prices.create({
        "product": product.id, "currency": "usd", "unit_amount": amount,
        "recurring": {"interval": interval}, "lookup_key": f"starter_{interval}_{run}", "transfer_lookup_key": True,
    })
found = client.v1.prices.list({"lookup_keys": [f"starter_month_{run}"], "expand": ["data.product"]}).data
assert len(found) == 1 and found[0].product.name == "StackPro Starter"
monthly = found[0]
pages = list(client.v1.prices.list({"product": product.id, "limit": 1}).auto_paging_iter())
assert len(pages) == 2 and pages[0].recurring.interval == "year"

# Checkout: declined, then paid, then paid once more in vain.
session = client.v1.checkout.sessions.create({
    "mode": "subscription", "customer": customer.id, "client_reference_id": "ada-1",
    "line_items": [{"price": monthly.id, "quantity": 1}], "metadata": {"client": "ada-1"},
    "subscription_data": {"metadata": {"client": "ada-1"}},
    "success_url": "http://127.0.0.1:9/done?session={CHECKOUT_SESSION_ID}", "cancel_url": "http://127.0.0.1:9/no",
})
assert session.status == "open" and session.url.startswith(base)
page = urllib.request.urlopen(session.url, timeout=10).read().decode()
assert "StackPro Starter" in page and "$299.00" in page and "ada@example.com" in page and "<Co>" not in page
card = {"expiry": "12 / 40", "cvc": "123", "name": "Ada", "country": "US"}
status, _, page = post_form(session.url, number="4000 0000 0000 0002", **card)
assert status == 402 and "Your card was declined." in page and "4000 0000 0000 0002\"" not in page
for _ in range(2):
    status, location, _ = post_form(session.url, number="4242 4242 4242 4242", **card)
    assert (status, location) == (303, f"http://127.0.0.1:9/done?session={session.id}")
session = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items"]})
assert session.status == "complete" and session.payment_status == "paid" and session.line_items.data[0].quantity == 1
assert session.subscription.status == "active" and session.subscription.metadata["client"] == "ada-1"

# What was delivered is signed, and what was tampered with is found out.
event, body, signature = event_of("checkout.session.completed")
assert event.data.object.id == session.id and event.api_version == stripe.api_version
refused(stripe.SignatureVerificationError, lambda: stripe.Webhook.construct_event(body + b" ", signature, secret))
assert client.v1.events.list({"type": "checkout.session.completed"}).data[0].id == event.id

# The subscription and its invoices.
subscriptions = client.v1.subscriptions.list({"customer": customer.id}).data
assert len(subscriptions) == 1
subscription = subscriptions[0]
item = subscription["items"].data[0]
assert item.current_period_end > item.current_period_start
invoices = client.v1.invoices.list({"customer": customer.id, "expand": ["data.payments.data.payment.payment_intent"]}).data
assert [invoice.status for invoice in invoices] == ["paid"] and invoices[0].amount_paid == 29900
assert invoices[0].parent.subscription_details.subscription == subscription.id
assert invoices[0].payments.data[0].payment.payment_intent.status == "succeeded"

# A change of plan, previewed and made.
yearly = client.v1.prices.list({"lookup_keys": [f"starter_year_{run}"]}).data[0]
change = [{"id": item.id, "price": yearly.id}]
preview = client.v1.invoices.create_preview({
    "subscription": subscription.id, "subscription_details": {"items": change, "proration_behavior": "always_invoice"},
})
assert 299000 - 29900 <= preview.total <= 299000 - 29800, preview.total
changed = client.v1.subscriptions.update(subscription.id, {"items": change, "proration_behavior": "always_invoice"})
assert changed["items"].data[0].price.id == yearly.id and changed.status == "active"
assert client.v1.invoices.retrieve(changed.latest_invoice).billing_reason == "subscription_update"

# A refund, the portal, the end.
refund = client.v1.refunds.create({"payment_intent": invoices[0].payments.data[0].payment.payment_intent.id, "amount": 100})
assert refund.status == "succeeded"
paid_charge = client.v1.charges.retrieve(refund.charge)
assert paid_charge.amount_refunded == 100 and not paid_charge.disputed
listed = client.v1.refunds.list({"charge": refund.charge, "expand": ["data.charge"]}).data
assert [one.id for one in listed] == [refund.id] and listed[0].charge.customer == customer.id
event, _, _ = event_of("charge.refunded")
assert event.data.object.id == refund.charge

# A code that is typed at Checkout, with an address and a tax id; the invoice that is discounted, and the next one.
coupon = client.v1.coupons.create({"percent_off": 25, "duration": "repeating", "duration_in_months": 3, "name": "Launch"})
assert coupon.valid and client.v1.coupons.retrieve(coupon.id).percent_off == 25
code = client.v1.promotion_codes.create({
    "promotion": {"type": "coupon", "coupon": coupon.id}, "code": f"LAUNCH-{run}", "max_redemptions": 1,
    "restrictions": {"first_time_transaction": True},
})
found = client.v1.promotion_codes.list({"code": f"launch-{run}", "expand": ["data.promotion.coupon"]}).data
assert [one.id for one in found] == [code.id] and found[0].promotion.coupon.name == "Launch"
again = lambda: client.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": code.code})
assert refused(stripe.InvalidRequestError, again).param == "code"
firm = client.v1.customers.create({"email": "kay@example.com", "name": "Kay"})
session = client.v1.checkout.sessions.create({
    "mode": "subscription", "customer": firm.id, "line_items": [{"price": monthly.id, "quantity": 1}],
    "success_url": "http://127.0.0.1:9/done", "allow_promotion_codes": True, "billing_address_collection": "required",
    "tax_id_collection": {"enabled": True}, "customer_update": {"name": "auto", "address": "auto"},
})
status, _, page = post_form(f"{session.url}/code", code="NO-SUCH-CODE")
assert status == 422 and "This code is invalid." in page
assert post_form(f"{session.url}/code", code=code.code.lower())[0] == 303
firm_form = {**card, "country": "DE", "business_name": "Kay GmbH", "tax_id_type": "eu_vat", "tax_id": "DE123456789"}
status, _, page = post_form(session.url, number="4242424242424242", **firm_form)
assert status == 402 and "Required" in page, "an address is required"
firm_form |= {"line1": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115"}
assert post_form(session.url, number="4242424242424242", **firm_form)[0] == 303
expand = ["invoice.total_discount_amounts.discount", "discounts.promotion_code", "subscription.discounts"]
session = client.v1.checkout.sessions.retrieve(session.id, {"expand": expand})
assert (session.amount_subtotal, session.amount_total, session.total_details.amount_discount) == (29900, 22425, 7475)
assert session.discounts[0].promotion_code.times_redeemed == 1 and not session.discounts[0].promotion_code.active
assert session.customer_details.address.city == "Berlin" and session.customer_details.tax_ids[0].type == "eu_vat"
off = session.invoice.total_discount_amounts[0]
assert (session.invoice.total, off.amount, off.discount.source.coupon) == (22425, 7475, coupon.id)
assert session.invoice.customer_tax_ids[0].value == "DE123456789"
assert session.subscription.discounts[0].end > session.subscription.discounts[0].start
upcoming = client.v1.invoices.create_preview({"subscription": session.subscription.id})
assert (upcoming.subtotal, upcoming.total) == (29900, 22425)
assert client.v1.customers.retrieve(firm.id, {"expand": ["tax_ids"]}).tax_ids.data[0].value == "DE123456789"
assert client.v1.customers.tax_ids.list(firm.id).data[0].country == "DE"
assert event_of("customer.discount.created")[0].data.object.promotion_code == code.id
client.v1.coupons.delete(coupon.id)
refused(stripe.InvalidRequestError, lambda: client.v1.coupons.retrieve(coupon.id))

# A payment that its bank takes back, and gets back.
victim = client.v1.customers.create({"email": "eve@example.com", "payment_method": "pm_card_createDispute"})
method = client.v1.payment_methods.list({"customer": victim.id, "type": "card"}).data[0]
client.v1.subscriptions.create({"customer": victim.id, "items": [{"price": monthly.id}], "default_payment_method": method.id})
event, _, _ = event_of("charge.dispute.created")
dispute = client.v1.disputes.retrieve(event.data.object.id)
assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "fraudulent", 29900)
assert dispute.evidence_details.due_by > dispute.created and client.v1.charges.retrieve(dispute.charge).disputed
dispute = client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True})
assert dispute.status == "won" and event_of("charge.dispute.closed")[0].data.object.status == "won"
portal = client.v1.billing_portal.sessions.create({"customer": customer.id, "return_url": "http://127.0.0.1:9/back"})
page = urllib.request.urlopen(portal.url, timeout=10).read().decode()
assert "StackPro Starter" in page and "4242" in page and "http://127.0.0.1:9/back" in page
status, _, _ = post_form(f"{portal.url}/cancel", subscription=subscription.id)
assert status == 303 and client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end is True
post_form(f"{portal.url}/resume", subscription=subscription.id)
assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end is False
assert client.v1.subscriptions.cancel(subscription.id).status == "canceled"
event_of("customer.subscription.deleted")

client.v1.webhook_endpoints.delete(endpoint.id)
assert client.v1.customers.delete(customer.id).deleted is True
print("judge.py: good")

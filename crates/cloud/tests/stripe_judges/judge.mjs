// Drives the simulated Stripe with Stripe's own JavaScript library: judge.mjs BASE_URL.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import Stripe from 'stripe';

const base = new URL(process.argv[2]);
const stripe = new Stripe('sk_test_stackpro', {
  protocol: base.protocol.slice(0, -1), host: base.hostname, port: base.port, maxNetworkRetries: 0, telemetry: false,
});

const received = [];
const receiver = http.createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  received.push([Buffer.concat(parts), request.headers['stripe-signature']]);
  response.end();
});
receiver.listen(0, '127.0.0.1');
await once(receiver, 'listening');

let secret;
async function eventOf(type) {
  for (const end = Date.now() + 20_000; Date.now() < end; await new Promise((next) => setTimeout(next, 20))) {
    const found = received.find(([body]) => JSON.parse(body).type === type);
    if (found) return [stripe.webhooks.constructEvent(found[0], found[1], secret), ...found];
  }
  throw new Error(`no ${type} was delivered`);
}

async function submit(url, fields) {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' });
  return [answer.status, answer.headers.get('location'), await answer.text()];
}

const endpoint = await stripe.webhookEndpoints.create({
  url: `http://127.0.0.1:${receiver.address().port}/hook`, enabled_events: ['*'],
});
secret = endpoint.secret;

// Errors that callers tell apart, and one answer for one key.
await assert.rejects(stripe.customers.retrieve('cus_none'), { type: 'StripeInvalidRequestError', code: 'resource_missing' });
await assert.rejects(stripe.customers.create({ colour: 'red' }), { code: 'parameter_unknown', param: 'colour' });
const key = { idempotencyKey: `key-${endpoint.id}` };
const first = await stripe.customers.create({ email: 'ada@example.com' }, key);
const second = await stripe.customers.create({ email: 'ada@example.com' }, key);
assert.equal(first.id, second.id);
await assert.rejects(stripe.customers.create({ email: 'eve@example.com' }, key), { type: 'StripeIdempotencyError' });

// Catalogue and checkout, without a customer beforehand.
const lookup = `business_month_${endpoint.id}`;
await stripe.prices.create({
  currency: 'usd', unit_amount: 59900, recurring: { interval: 'month' }, lookup_key: lookup,
  product_data: { name: 'StackPro Business' },
});
const { data: [price] } = await stripe.prices.list({ lookup_keys: [lookup], expand: ['data.product'] });
assert.equal(price.product.name, 'StackPro Business');
const session = await stripe.checkout.sessions.create({
  mode: 'subscription', line_items: [{ price: price.id, quantity: 1 }], customer_email: 'grace@example.com',
  success_url: 'http://127.0.0.1:9/done?session={CHECKOUT_SESSION_ID}',
});
const card = { expiry: '1240', cvc: '123', name: 'Grace', country: 'GB' };
const [declined, , page] = await submit(session.url, { number: '4000000000009995', ...card });
assert.equal(declined, 402);
assert.match(page, /Your card has insufficient funds\./);
const [status, location] = await submit(session.url, { number: '4242424242424242', ...card });
assert.deepEqual([status, location], [303, `http://127.0.0.1:9/done?session=${session.id}`]);
const paid = await stripe.checkout.sessions.retrieve(session.id, { expand: ['subscription.latest_invoice', 'customer'] });
assert.equal(paid.payment_status, 'paid');
assert.equal(paid.customer.email, 'grace@example.com');
assert.equal(paid.subscription.latest_invoice.status, 'paid');
const [event, body, signature] = await eventOf('checkout.session.completed');
assert.equal(event.data.object.id, session.id);
assert.throws(() => stripe.webhooks.constructEvent(`${body} `, signature, secret), { type: 'StripeSignatureVerificationError' });

// A code for one invoice: shown, charged, invoiced, and gone.
const coupon = await stripe.coupons.create({ amount_off: 5000, currency: 'usd', duration: 'once' });
const code = await stripe.promotionCodes.create({ promotion: { type: 'coupon', coupon: coupon.id } });
const discounted = await stripe.checkout.sessions.create({
  mode: 'subscription', line_items: [{ price: price.id, quantity: 1 }], customer_email: 'linus@example.com',
  success_url: 'http://127.0.0.1:9/done', allow_promotion_codes: true,
});
assert.equal((await submit(`${discounted.url}/code`, { code: code.code }))[0], 303);
assert.equal((await submit(discounted.url, { number: '4242424242424242', ...card }))[0], 303);
const less = await stripe.checkout.sessions.retrieve(discounted.id, { expand: ['invoice', 'subscription'] });
assert.deepEqual([less.amount_total, less.invoice.total, less.invoice.amount_paid], [54900, 54900, 54900]);
assert.deepEqual(less.invoice.total_discount_amounts.map((one) => one.amount), [5000]);
assert.deepEqual(less.subscription.discounts, []);
assert.equal((await stripe.invoices.createPreview({ subscription: less.subscription.id })).total, 59900);
await assert.rejects(stripe.coupons.create({ amount_off: 5000, currency: 'usd', duration: 'forever' }), { type: 'StripeInvalidRequestError' });

// Paging, a payment method by the API, a decline by the API.
const ids = [];
for await (const one of stripe.events.list({ limit: 2 })) ids.push(one.id);
assert.equal(new Set(ids).size, ids.length);
assert.ok(ids.length > 5);
const method = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: first.id });
await assert.rejects(stripe.subscriptions.create({
  customer: first.id, items: [{ price: price.id }], default_payment_method: method.id,
  payment_behavior: 'error_if_incomplete',
}), { type: 'StripeCardError', code: 'card_declined', decline_code: 'generic_decline' });
assert.equal((await stripe.subscriptions.list({ customer: first.id, status: 'all' })).data.length, 0);

// The end.
const ending = await stripe.subscriptions.update(paid.subscription.id, { cancel_at_period_end: true });
assert.equal(ending.cancel_at, ending.items.data[0].current_period_end);
const [updated] = await eventOf('customer.subscription.updated');
assert.equal(updated.data.previous_attributes.cancel_at_period_end, false);
assert.equal((await stripe.subscriptions.cancel(ending.id)).status, 'canceled');
await stripe.webhookEndpoints.del(endpoint.id);
receiver.close();
receiver.closeAllConnections();
console.log('judge.mjs: good');

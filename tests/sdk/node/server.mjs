// What @openfeature/server-sdk makes of the flags, as one line of JSON. Arguments: the service's URL, a token.
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';

const [baseUrl, token] = process.argv.slice(2);
const log = { error() {}, warn() {}, info() {}, debug() {} };
OpenFeature.setLogger(log);

async function clientWith(domain, headers) {
  await OpenFeature.setProviderAndWait(domain, new OFREPProvider({ baseUrl, headers }));
  return OpenFeature.getClient(domain);
}

const client = await clientWith('right', [['Authorization', `Bearer ${token}`]]);
const wrong = await clientWith('wrong', [['Authorization', 'Bearer production.wrong']]);
const ann = { targetingKey: 'ann', email: 'ann@example.com' };
const bob = { targetingKey: 'bob', email: 'bob@else.org' };
const told = ({ value, reason, variant, errorCode }) => ({ value, reason, variant, errorCode });

console.log(JSON.stringify({
  switch: told(await client.getBooleanDetails('switch', false)),
  colour: told(await client.getStringDetails('colour', 'none')),
  count: told(await client.getNumberDetails('count', 0)),
  ratio: told(await client.getNumberDetails('ratio', 0)),
  limits: told(await client.getObjectDetails('limits', {})),
  chosen: told(await client.getBooleanDetails('beta', false, ann)),
  other: told(await client.getBooleanDetails('beta', true, bob)),
  disabled: told(await client.getBooleanDetails('disabled', true)),
  unknown: told(await client.getBooleanDetails('nothing', true)),
  mistaken: told(await client.getBooleanDetails('colour', true)),
  refused: told(await wrong.getBooleanDetails('switch', false)),
}));

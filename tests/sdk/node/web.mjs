// @openfeature/web-sdk beside the running service: a line of JSON at the start and after each change that it is told of.
// Arguments: the service's URL, a token, how it learns of changes (`sse`: by the stream alone; `polling`). Ends with stdin.
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { EventSource } from 'eventsource';

const [baseUrl, token, changeDetection] = process.argv.slice(2);
globalThis.EventSource = EventSource; // browsers have it
const statuses = [];
const provider = new OFREPWebProvider({
  baseUrl,
  headers: [['X-API-Key', token]],
  changeDetection,
  pollInterval: changeDetection === 'polling' ? 100 : 0,
  fetchImplementation: async (request) => {
    const response = await fetch(request);
    statuses.push(response.status);
    return response;
  },
});
const client = OpenFeature.getClient();

function tell(event, flagsChanged) {
  console.log(JSON.stringify({
    event,
    flagsChanged,
    switch: client.getBooleanValue('switch', true),
    beta: client.getBooleanValue('beta', false),
    disabled: client.getBooleanDetails('disabled', true),
    statuses: statuses.splice(0),
  }));
}

await OpenFeature.setContext({ targetingKey: 'ann', email: 'ann@example.com' });
await OpenFeature.setProviderAndWait(provider);
client.addHandler(ProviderEvents.ConfigurationChanged, ({ flagsChanged }) => tell('changed', flagsChanged));
tell('ready');
for await (const line of process.stdin) tell(String(line).trim());
process.exit(0);

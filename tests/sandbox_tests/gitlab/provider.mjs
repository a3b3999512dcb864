// A provider of OpenID Connect with one client, whose people have any name and the same password as everybody:
// provider.mjs <its module> <port>. CLIENT_ID, CLIENT_SECRET and REDIRECT_URI are in the environment.
import { pathToFileURL } from 'node:url';

const [, , module, port] = process.argv;
const { default: Provider } = await import(pathToFileURL(module));
const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: CLIENT_ID, client_secret: CLIENT_SECRET, redirect_uris: [REDIRECT_URI] }],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, name: `The ${id}`, preferred_username: id, email: `${id}@example.com`, email_verified: true,
    }),
  }),
});
provider.listen(Number(port), '127.0.0.1');

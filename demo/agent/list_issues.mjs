// Lists the forge's issues with Node's own fetch, which ignores proxy variables.
const answer = await fetch("https://forge.test/api/repos/acme/site/issues");
if (!answer.ok) throw new Error(`the forge answered ${answer.status}: ${await answer.text()}`);
for (const issue of await answer.json()) console.log(`issue ${issue.number}: ${issue.title}`);

// What is killed with SIGKILL, at any moment: workers, nginx, the Table service, the SMTP server.
'use strict';

module.exports = [
  {
    name: 'none', // the control: nothing breaks
    variants: 2,
    async trial(t, number) {
      await t.start({ store: ['table', 'sqlite'][number % 2] });
      await t.post(t.leads(20));
    },
  },
];

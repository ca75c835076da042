/** What an entry of the package that has types only imports at run time: nothing. */
export {};

// What the tables need in the browser: the text that the server formatted, and saving the rows as shown.
const gridFunctions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});

// Raw values stay in the grid for sorting, filters and CSV; people see this.
gridFunctions.shown = (params) => (params.data ? params.data._shown[params.colDef.field] : "");

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  tables: {
    // Rows as sorted and filtered, raw values, and the keys as header: keys carry the units, titles do not.
    saveCsv: (clicks, gridIds) => {
      if (clicks) {
        dash_ag_grid.getApi(gridIds[0]).exportDataAsCsv({
          fileName: gridIds[0].name,
          processHeaderCallback: (params) => params.column.getColId(),
        });
      }
      return window.dash_clientside.no_update;
    },
  },
});
